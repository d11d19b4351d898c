//! `pinwatch run --check-config` with flags, environment and file. Attaches nothing.

use std::fs;
use std::process::{Command, Output};

use pinwatch::cli::config::settings;

/// Whether the settings are accepted, and the output.
fn check(env: &[(&str, &str)], args: &[&str]) -> (bool, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_pinwatch"))
        .args(["run", "--check-config"])
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    (status.success(), text.into_owned())
}

#[test]
fn every_variable_is_read() {
    for setting in settings() {
        let Some(env) = setting.env else { continue };
        // Only a setting that takes any path accepts this value.
        let (fine, says) = check(&[(&env, "\u{1}/\u{1}")], &[]);
        let takes_any = env == "PINWATCH_SOCKET";
        assert_eq!(fine, takes_any, "{env}: {says}");
    }
}

#[test]
fn flags_override_the_environment_and_the_environment_overrides_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pinwatch.toml");
    fs::write(&file, "[web]\nlisten-address = [\"192.0.2.1:1\"]\n").expect("written");
    let file = file.to_str().expect("text");
    let by_file = [("PINWATCH_CONFIG", file)];
    let by_both = [
        by_file[0],
        ("PINWATCH_WEB_LISTEN_ADDRESS", "192.0.2.2:2,192.0.2.3:3"),
    ];
    // A warning names each address.
    let warned = |env: &[_], args: &[_]| {
        let (fine, says) = check(env, args);
        assert!(fine, "{says}");
        [1, 2, 3, 4].map(|n| says.contains(&format!("192.0.2.{n}:{n}")))
    };
    assert_eq!(warned(&[], &[]), [false; 4]);
    assert_eq!(warned(&by_file, &[]), [true, false, false, false]);
    assert_eq!(warned(&by_both, &[]), [false, true, true, false]);
    let flag = ["--web.listen-address", "192.0.2.4:4"];
    assert_eq!(warned(&by_both, &flag), [false, false, false, true]);
}

#[test]
fn files_named_in_the_settings_are_checked_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let [toml, yml] = ["pinwatch.toml", "web.yml"].map(|name| folder.path().join(name));
    fs::write(&yml, "basic_auth_users:\n  alice: secret\n").expect("written");
    fs::write(&toml, format!("[web.config]\nfile = {yml:?}\n")).expect("written");
    let (fine, says) = check(&[], &["--config", toml.to_str().expect("text")]);
    assert!(
        !fine && says.contains("web.yml:2: basic_auth_users"),
        "{says}"
    );
    assert!(!says.contains("secret"), "{says}");
}
