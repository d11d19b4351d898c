//! `pinwatch record` from a daemon without a kernel: failed starts, write errors and signals. Needs no root.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pinwatch::model::state::State;
use pinwatch::recording::{Damage, Reader};
use pinwatch::stream::hub::{Hub, SyncRequest};
use pinwatch::stream::serve::Socket;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon without pins, and a folder for files.
struct Daemon {
    folder: TempDir,
    task: JoinHandle<()>,
}

impl Daemon {
    /// `answered` is the number of requests to publish everything queued that the daemon answers. The
    /// first is that of a new follower, the second that of its end.
    fn start(answered: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = Socket::bind(&folder.path().join("sock")).expect("bound");
        let (hub, syncs) = Hub::new();
        let serving = async move {
            let state = || State::empty("6.12", "folios");
            tokio::join!(socket.serve(hub, state), answer(syncs, answered));
        };
        Self {
            task: tokio::spawn(serving),
            folder,
        }
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("text").to_owned()
    }

    /// `pinwatch record --connect -o OUTPUT -- sh -c SCRIPT`, in the folder.
    fn record(&self, output: &str, script: &str) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_pinwatch"));
        let socket = self.path("sock");
        command.args(["record", "--connect", &socket, "-o", output]);
        command.args(["--", "sh", "-c", script]);
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path());
        command.stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn wait_for(&self, name: &str) {
        let there = async {
            while !Path::new(&self.path(name)).exists() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, there).await.expect(name);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut syncs: Receiver<SyncRequest>, answered: usize) {
    let mut unanswered = Vec::new();
    let mut left = answered;
    while let Some(done) = syncs.recv().await {
        if left == 0 {
            unanswered.push(done);
            continue;
        }
        left -= 1;
        let _ = done.send(());
    }
}

/// Exit status and stderr of a command.
async fn output(mut command: Command) -> (i32, String) {
    ended(command.spawn().expect("it runs")).await
}

async fn ended(child: Child) -> (i32, String) {
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it ends").expect("it was waited for");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), errors)
}

fn interrupt(child: &Child) {
    send(child, Signal::SIGINT);
}

fn send(child: &Child, signal: Signal) {
    let pid = child.id().expect("it runs") as i32;
    kill(Pid::from_raw(pid), signal).expect("sent");
}

/// Damage of a recording.
fn damage(path: &str) -> Option<Damage> {
    let mut reader = Reader::new(File::open(path).expect("a file")).expect("a recording");
    while reader.next_item().expect("read").is_some() {}
    reader.damage()
}

#[tokio::test]
async fn a_failed_start_leaves_files_as_they_were() {
    let daemon = Daemon::start(usize::MAX);
    let [old, new] = ["old.pw", "new.pw"].map(|name| daemon.path(name));
    for path in [&old, &new] {
        fs::write(&old, "a recording").expect("written");
        let mut nobody = daemon.command(env!("CARGO_BIN_EXE_pinwatch"));
        nobody.args(["record", "-o", path, "--connect", "nobody"]);
        let (status, errors) = output(nobody).await;
        assert!(status == 1 && errors.contains("nobody"), "{errors}");

        let mut no_program = daemon.command(env!("CARGO_BIN_EXE_pinwatch"));
        no_program.args(["record", "-o", path, "--connect", "sock", "--", "./none"]);
        let (status, errors) = output(no_program).await;
        assert!(status == 1 && errors.contains("./none"), "{errors}");
        assert_eq!(fs::read(&old).expect("kept"), b"a recording");
        assert!(!Path::new(&new).exists());
    }
    for path in [&old, &new] {
        let (status, errors) = output(daemon.record(path, "exit 7")).await;
        assert_eq!((status, damage(path)), (7, None), "{errors}");
    }
}

#[tokio::test]
async fn a_write_error_does_not_end_the_command() {
    let daemon = Daemon::start(usize::MAX);
    let (status, errors) = output(daemon.record("/dev/full", "sleep 0.5; mkdir done")).await;
    assert!(Path::new(&daemon.path("done")).exists(), "{errors}");
    assert_eq!(status, 1, "{errors}");
    for part in ["sh goes on", "cannot write /dev/full", "os error 28"] {
        assert!(errors.contains(part), "{errors}");
    }
    // A signal ends the wait.
    let mut child = daemon.record("/dev/full", "mkdir began; exec sleep 1000");
    let child = child.spawn().expect("it runs");
    daemon.wait_for("began").await;
    interrupt(&child);
    assert_eq!(ended(child).await.0, 1);
}

#[tokio::test]
async fn a_file_size_limit_is_a_write_error() {
    let daemon = Daemon::start(usize::MAX);
    let mut limited = daemon.command("sh");
    let program = env!("CARGO_BIN_EXE_pinwatch");
    let recorded = "sh -c 'sleep 0.5; mkdir done'";
    let script = format!("ulimit -f 0; {program} record --connect sock -o pins.pw -- {recorded}");
    limited.args(["-c", &script]);
    let (status, errors) = output(limited).await;
    assert!(Path::new(&daemon.path("done")).exists(), "{errors}");
    assert!(status == 1 && errors.contains("os error 27"), "{errors}");
}

#[tokio::test]
async fn only_the_second_signal_cuts_the_recording_short() {
    for (answered, cut) in [(usize::MAX, false), (1, true)] {
        let daemon = Daemon::start(answered);
        let path = daemon.path("pins.pw");
        let child = daemon.record(&path, "mkdir began; exec sleep 1000").spawn();
        let child = child.expect("it runs");
        daemon.wait_for("began").await;
        interrupt(&child);
        if cut {
            // Both at once would be one signal.
            sleep(Duration::from_millis(500)).await;
            interrupt(&child);
        }
        let (status, errors) = ended(child).await;
        assert_eq!(status, 0, "{errors}");
        assert_eq!(
            errors.contains("the last pins are missing"),
            cut,
            "{errors}"
        );
        let skipped = 0;
        let expected = cut.then_some(Damage { skipped, cut });
        assert_eq!(damage(&path), expected, "{errors}");
    }
}

/// As with nohup(1), or when a terminal closes.
#[tokio::test]
async fn sighup_ends_a_recording_unless_it_is_ignored() {
    let program = env!("CARGO_BIN_EXE_pinwatch");
    let record = format!("exec {program} record --connect sock -o pins.pw");
    let command = "sh -c 'mkdir began; exec sleep 1000'";
    for (ignore, ignored) in [("trap '' HUP", true), ("true", false)] {
        let daemon = Daemon::start(usize::MAX);
        let mut shell = daemon.command("sh");
        shell.args(["-c", &format!("{ignore}; {record} -- {command}")]);
        let mut child = shell.spawn().expect("it runs");
        daemon.wait_for("began").await;
        send(&child, Signal::SIGHUP);
        if ignored {
            sleep(Duration::from_millis(500)).await;
            assert_eq!(child.try_wait().expect("a child"), None);
            interrupt(&child);
        }
        let (status, errors) = ended(child).await;
        assert_eq!(status, 0, "{errors}");
        assert_eq!(damage(&daemon.path("pins.pw")), None, "{errors}");
    }
}

#[tokio::test]
async fn a_closed_pipe_is_an_error_of_record_and_the_end_of_tail() {
    let daemon = Daemon::start(2);
    let mut record = daemon.record("/dev/stdout", "cat");
    record
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = record.spawn().expect("it starts");
    drop(child.stdout.take());
    drop(child.stdin.take());
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it ends").expect("a child");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write /dev/stdout"), "{said}");

    let mut tail = daemon.command(env!("CARGO_BIN_EXE_pinwatch"));
    tail.args(["tail", "--connect", &daemon.path("sock")]);
    tail.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tail.spawn().expect("it starts");
    // No pin ever makes it write.
    drop(child.stdout.take());
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it notices").expect("a child");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
