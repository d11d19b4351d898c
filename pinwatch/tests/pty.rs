//! Output on a terminal: its colours, and its width. Needs no root and no kernel.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::pty::{OpenptyResult, openpty};

/// A recording in the tests' data.
fn recording() -> String {
    format!(
        "{}/tests/data/recordings/6.12.pw",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// What a command writes to a new terminal, whose size is 0 x 0. `connect` makes the terminal its stdout or
/// stderr.
fn on_terminal(
    env: &[(&str, &str)],
    mut command: Command,
    connect: fn(&mut Command, File),
) -> String {
    let OpenptyResult { master, slave } = openpty(None, None).expect("a terminal");
    command
        .env_clear()
        .env("TERM", "xterm")
        .envs(env.iter().copied());
    command.stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    connect(&mut command, File::from(slave));
    let mut child = command.spawn().expect("it runs");
    // The command has a copy of the terminal, which keeps it open.
    drop(command);
    let mut text = Vec::new();
    // EIO: all copies are closed.
    let _ = File::from(master).read_to_end(&mut text);
    assert!(child.wait().expect("it ends").success());
    String::from_utf8(text).expect("text")
}

#[test]
fn the_log_has_colours_unless_no_color_is_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let cut = folder.path().join("cut.pw");
    let mut bytes = fs::read(Path::new(&recording())).expect("a recording");
    bytes.pop();
    fs::write(&cut, bytes).expect("written");
    for (env, coloured) in [(&[][..], true), (&[("NO_COLOR", "1")][..], false)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinwatch"));
        command.arg("replay").arg(&cut).args(["--as", "metrics"]);
        let text = on_terminal(env, command, |command, terminal| {
            command.stderr(terminal);
        });
        assert!(text.contains("cut short"), "{text}");
        assert_eq!(text.contains("\x1b["), coloured, "{text:?}");
    }
}

#[test]
fn tail_cuts_no_line_on_a_terminal_of_unknown_width() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinwatch"));
    command.args(["tail", "--replay", &recording()]);
    let text = on_terminal(&[], command, |command, terminal| {
        command.stdout(terminal);
    });
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() > 2, "{text}");
    assert!(
        lines.iter().all(|line| !line.ends_with('\u{2026}')),
        "{text}"
    );
}
