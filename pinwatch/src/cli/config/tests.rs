//! Flags and the file of `--config`. Environment variables are tested in `pinwatch/tests/config.rs`, in
//! child processes, since the environment belongs to the whole process.

use std::fs;

use super::*;
use crate::cli;
use crate::model::series::Per;

fn run(args: &[&str]) -> Result<cli::Run, Refused> {
    let args = ["pinwatch", "run"].iter().chain(args);
    match parse(args.map(OsString::from))?.command {
        cli::Command::Run(run) => Ok(run),
        other => panic!("{other:?}"),
    }
}

/// Parses `pinwatch run --config FILE ARGS`, where the file has this text.
fn with(text: &str, args: &[&str]) -> Result<cli::Run, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pinwatch.toml");
    fs::write(&path, text).expect("written");
    let path = path.to_str().expect("text");
    let args: Vec<_> = ["--config", path]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    let hide = |error: Refused| error.to_string().replace(path, "pinwatch.toml");
    run(&args).map_err(hide)
}

/// Port of the first address to listen on.
fn port(run: &cli::Run) -> u16 {
    run.listen[0].resolve().expect("an address").port()
}

#[test]
fn no_flag_is_forgotten() {
    let command = command();
    let run = command.find_subcommand(COMMAND).expect("it is there");
    let flags: Vec<_> = run.get_arguments().filter_map(Arg::get_long).collect();
    let settings = settings();
    assert_eq!(settings.len(), flags.len());
    for (setting, flag) in settings.iter().zip(flags) {
        let key = (![FILE, ONLY_FLAG].contains(&flag)).then_some(flag);
        assert_eq!(setting.key.as_deref(), key, "{flag}");
        assert_eq!(setting.env.is_none(), flag == ONLY_FLAG, "{flag}");
        assert!(
            setting
                .env
                .as_ref()
                .is_none_or(|env| env.starts_with("PINWATCH_")),
            "{flag}"
        );
        assert!(!setting.help.is_empty(), "{flag}");
    }
}

#[test]
fn every_key_can_be_set() {
    // A valid value for each key. A new flag needs a line here.
    let value = |key: &str| match key {
        "web.listen-address" => "[\"127.0.0.1:1\", \"[::1]:2\"]",
        "web.config.file" | "socket" => "\"/nowhere\"",
        "web.allowed-host" => "[\"a.example\"]",
        "user" => "\"65534:65534\"",
        "stuck-after" => "\"30s\"",
        "bpf-log" => "\"warn\"",
        "attach" => "\"kprobe\"",
        "capabilities" => "\"keep\"",
        "per" => "\"cgroup\"",
        "max-series" => "7",
        "with" => "[\"fast_path\"]",
        "without" => "[\"zones\", \"drains\"]",
        other => panic!("{other} is not tested"),
    };
    let keys = settings().into_iter().filter_map(|setting| setting.key);
    let text: String = keys
        .map(|key| format!("{key} = {}\n", value(&key)))
        .collect();
    let run = with(&text, &[]).expect("it is right");
    assert_eq!(run.listen.len(), 2);
    assert_eq!(run.stuck_after.as_secs(), 30);
    assert_eq!(run.bpf_log, cli::BpfLog::Warn);
    assert_eq!(run.selection.without.len(), 2);
    assert_eq!((run.per, run.max_series.get()), (Per::Cgroup, 7));
    assert_eq!(run.socket.as_deref(), Some("/nowhere".as_ref()));
}

#[test]
fn flags_win_over_the_file_and_that_over_the_default() {
    let text =
        "stuck-after = \"30s\"\nwithout = [\"zones\"]\n[web]\nlisten-address = \"127.0.0.1:1\"\n";
    let plain = with(text, &[]).expect("it is right");
    assert_eq!((plain.stuck_after.as_secs(), port(&plain)), (30, 1));
    let run = with(text, &["--stuck-after", "5s", "--without", "drains"]).expect("it is right");
    assert_eq!((run.stuck_after.as_secs(), port(&run)), (5, 1));
    assert_eq!(
        run.selection.without.len(),
        1,
        "a list is replaced, not added to"
    );
    let neither = with("", &[]).expect("it is right");
    assert_eq!((neither.stuck_after.as_secs(), port(&neither)), (10, 10746));
}

#[test]
fn errors_name_the_file_the_line_and_the_key() {
    for (text, says) in [
        (
            "\nstuck_after = \"3s\"\n",
            "pinwatch.toml:2: stuck_after: unknown key",
        ),
        (
            "[web]\nlisten = \"x\"\n",
            "pinwatch.toml:2: web.listen: unknown key",
        ),
        ("\n\n[wbe]\n", "pinwatch.toml:3: wbe: unknown key"),
        ("config = \"x\"\n", "pinwatch.toml:1: config: unknown key"),
        ("help = true\n", "pinwatch.toml:1: help: unknown key"),
        (
            "# x\nstuck-after = \"soon\"\n",
            "pinwatch.toml:2: stuck-after: invalid value 'soon'",
        ),
        (
            "stuck-after = 10\n",
            "pinwatch.toml:1: stuck-after: invalid value '10'",
        ),
        (
            "stuck-after = [\"3s\"]\n",
            "pinwatch.toml:1: stuck-after: expected a string",
        ),
        (
            "stuck-after = 1.5\n",
            "pinwatch.toml:1: stuck-after: expected a string",
        ),
        (
            "without = [1.5]\n",
            "pinwatch.toml:1: without: expected a list of strings",
        ),
        (
            "without = [\"zones\",\n\"pin_entry\"]\n",
            "pinwatch.toml:1: without: invalid value 'pin_entry'",
        ),
        (
            "max-series = 0\n",
            "pinwatch.toml:1: max-series: invalid value '0'",
        ),
        ("bpf-log = \"loud\"\n", "possible values: off, warn, debug"),
        ("socket = \"a\"\nsocket = \"b\"\n", "pinwatch.toml:2: "),
        ("socket = \n", "pinwatch.toml:1: "),
    ] {
        let error = with(text, &[]).map(|_| ()).expect_err("it is wrong");
        assert!(error.contains(says), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = with("stuck-after = \"soon\"\n", &["--stuck-after", "5s"]);
    assert!(error.is_err(), "a key that a flag overrides is checked too");
    let error = run(&["--config", "/nowhere.toml"])
        .map(|_| ())
        .expect_err("not there");
    assert!(error.to_string().starts_with("/nowhere.toml: "), "{error}");
}

#[test]
fn other_commands_have_no_configuration() {
    let args = ["pinwatch", "tail", "--config", "x"].map(OsString::from);
    assert!(matches!(parse(args), Err(Refused::Usage(_))));
    let args = ["pinwatch", "tail", "--comm", "run"].map(OsString::from);
    assert!(parse(args).is_ok());
}
