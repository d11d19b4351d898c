//! `pinwatch top` and `pinwatch tail` in tmux, connected to a simulated daemon.

use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;

use bytemuck::Zeroable as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pinwatch::stream::hub::Hub;
use pinwatch::stream::serve::Socket;
use pinwatch_common::record::{Pin, PinEvent};
use pinwatch_common::weak::Holder;

use super::state::state;
use super::wait::{PATIENCE, wait_for};

/// A tmux server with one window of 80 columns and 24 lines. Killed when dropped.
struct Screen {
    server: String,
    folder: PathBuf,
}

impl Screen {
    /// Runs a command with `--connect` to a socket that sends pins, then prints its exit status.
    fn run(name: &str, command: &str) -> Self {
        let server = format!("pinwatch-{name}-{}", process::id());
        let folder = std::env::temp_dir().join(&server);
        std::fs::create_dir_all(&folder).expect("a folder");
        let socket = folder.join("socket");
        serve(&socket);
        let screen = Self { server, folder };
        let command = format!(
            "PATH={}:$PATH; {command} --connect {}; echo ended with $?; cat",
            Path::new(env!("CARGO_BIN_EXE_pinwatch"))
                .parent()
                .expect("a folder")
                .display(),
            socket.display()
        );
        screen.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            &command,
        ]);
        screen
    }

    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-L", &self.server])
            .args(args)
            .output()
            .expect("tmux: `cargo xtask setup` installs it");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Waits until the screen shows a text; returns the line with it.
    fn wait_for(&self, text: &str) -> String {
        let what = format!("{text:?} on the screen");
        wait_for(&what, PATIENCE, || {
            let shown = self.tmux(&["capture-pane", "-p"]);
            let line = shown.lines().find(|line| line.contains(text));
            line.map(str::to_owned)
        })
    }

    /// The text on the screen with its colour codes.
    fn coloured(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Panics unless the terminal is restored: no alternate screen, a visible cursor, echo and line editing.
    fn assert_restored(&self) {
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1");
        self.press(&["typed", "Enter"]);
        self.wait_for("typed");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .args(["-L", &self.server, "kill-server"])
            .status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Serves a daemon's socket with a simulated state. The first follower gets two pins.
fn serve(path: &Path) {
    let path = path.to_owned();
    let (ready, bound) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let socket = Socket::bind(&path).expect("a socket");
            ready.send(()).expect("somebody waits");
            let (hub, mut syncs) = Hub::new();
            let publisher = async {
                let mut pins = Some(pins());
                while let Some(done) = syncs.recv().await {
                    let _ = done.send(());
                    hub.publish(pins.take().into_iter().flatten());
                }
            };
            tokio::join!(socket.serve(hub.clone(), state), publisher);
        });
    });
    bound.recv().expect("bound");
}

fn pins() -> Vec<PinEvent> {
    let pin = |tgid, comm: &[u8], returned| {
        let mut name = [0; 16];
        name[..comm.len()].copy_from_slice(comm);
        PinEvent {
            holder: Holder::NONE,
            pin: Pin {
                tgid,
                duration_ns: 1_000_000,
                returned,
                passes: 1,
                ended: 1,
                ..Pin::zeroed()
            },
            comm: name,
        }
    };
    vec![pin(101, b"qemu", 16), pin(102, b"bad\x1b]0;x\x07", -14)]
}

#[test]
fn top_shows_pins_and_reacts_to_keys() {
    let screen = Screen::run("keys", "pinwatch top");
    let hung = screen.wait_for("4194305");
    assert!(hung.contains("1m16s") || hung.contains("75.0s"), "{hung}");
    assert!(hung.contains("looping on isolation"), "{hung}");
    screen.wait_for("1500 pins, 150 failed");
    screen.wait_for("786k pages pinned now: qemu[17] 3 GiB + 0 B locked");
    screen.wait_for("qemu");
    let bad = screen.wait_for("bad");
    assert!(
        bad.contains("bad\\u{1b}]0…") && bad.contains("fault 1"),
        "{bad}"
    );
    screen.press(&["Tab"]);
    let vfio = screen.wait_for("vfio");
    assert!(vfio.contains(" 500 "), "{vfio}");
    screen.press(&["/", "rdma", "Enter"]);
    screen.wait_for("containing: rdma");
    screen.wait_for("ORIGINS, since the daemon's start: 1");
    screen.press(&["Escape", "p"]);
    screen.wait_for("PAUSED");
    screen.press(&["?"]);
    screen.wait_for("sort by the next column");
    screen.press(&["q"]);
    screen.wait_for("ended with 0");
    screen.assert_restored();
}

#[test]
fn the_terminal_is_restored_after_a_signal() {
    let screen = Screen::run("signal", "pinwatch top");
    screen.wait_for("IN FLIGHT: 1");
    assert_eq!(
        screen
            .tmux(&["display-message", "-p", "#{alternate_on}"])
            .trim(),
        "1"
    );
    let shell = screen.tmux(&["display-message", "-p", "#{pane_pid}"]);
    let top = child_of(shell.trim()).expect("the shell runs it");
    kill(top, Signal::SIGTERM).expect("it runs");
    screen.wait_for("ended with 0");
    screen.assert_restored();
}

/// The first child of a process.
fn child_of(parent: &str) -> Option<Pid> {
    let folders = std::fs::read_dir("/proc").expect("procfs").flatten();
    let mut pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    pids.find(|pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.unwrap_or_default();
        let of = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        of.is_some_and(|of| of.trim() == parent)
    })
    .map(Pid::from_raw)
}

#[test]
fn tail_uses_colour_on_a_terminal_unless_no_color_is_set() {
    for (name, command, coloured) in [
        ("colour", "pinwatch tail", true),
        ("plain", "NO_COLOR=1 pinwatch tail", false),
    ] {
        let screen = Screen::run(name, command);
        let failed = screen.wait_for("EFAULT fault");
        assert!(failed.contains("bad\\u{…"), "{failed}");
        screen.wait_for("in flight: looping");
        assert_eq!(screen.coloured().contains("\x1b[31m"), coloured, "{name}");
        screen.press(&["C-c"]);
        screen.wait_for("2 pins, 1 failed");
        screen.wait_for("ended with 0");
    }
}
