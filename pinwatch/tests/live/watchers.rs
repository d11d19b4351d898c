//! Runs `pinwatch tail --json` and `pinwatch top`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A running `pinwatch tail --json`. Killed when dropped.
pub struct Tail {
    child: Child,
    out: BufReader<ChildStdout>,
    /// The first object of its output.
    pub start: Value,
}

/// Output of a tail after its first object.
pub struct TailOutput {
    pub pins: Vec<Value>,
    pub refusals: Vec<Value>,
    pub summary: Value,
}

impl Tail {
    /// Starts it and waits until it gets every pin.
    pub fn start(args: &[&str]) -> Self {
        let mut child = Command::new("pinwatch")
            .args(["tail", "--json"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("pinwatch is in the PATH");
        let mut tail = Self {
            out: BufReader::new(child.stdout.take().expect("piped")),
            child,
            start: Value::Null,
        };
        tail.start = tail.next().expect("a first object");
        assert_eq!(tail.start["type"], "start");
        tail
    }

    /// Waits for the next object. `None` at the end of the output.
    pub fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.out.read_line(&mut line).expect("UTF-8");
        (read > 0).then(|| serde_json::from_str(&line).expect("JSON"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    /// Ends the tail as Ctrl-C does, and reads its remaining output.
    pub fn finish(mut self) -> TailOutput {
        self.signal(Signal::SIGINT);
        let (mut pins, mut refusals) = (Vec::new(), Vec::new());
        let mut summary = Value::Null;
        while let Some(object) = self.next() {
            match object["type"].as_str() {
                Some("pin") => pins.push(object),
                Some("refusal") => refusals.push(object),
                Some("in_flight" | "hold") => {}
                Some("summary") => summary = object,
                _ => panic!("{object}"),
            }
        }
        assert!(self.child.wait().expect("a child").success());
        assert_eq!(summary["type"], "summary", "the summary comes last");
        assert_eq!(summary["pins"], pins.len());
        assert_eq!(summary["refused"], refusals.len());
        TailOutput {
            pins,
            refusals,
            summary,
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl TailOutput {
    /// Events that the tail has reported as lost.
    pub fn lost(&self) -> u64 {
        let lost = |why: &str| self.summary["lost"][why].as_u64().expect("a count");
        lost("ring") + lost("behind")
    }
}

/// A running `pinwatch top` on a terminal of 80 columns and 24 lines. Killed when dropped.
pub struct Top {
    child: Child,
    terminal: File,
    drawn: Vec<u8>,
}

impl Top {
    pub fn start(args: &[&str]) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = openpty(&size, None).expect("a terminal");
        let slave = || terminal.slave.try_clone().expect("a descriptor");
        let child = Command::new("pinwatch")
            .arg("top")
            .args(args)
            .stdin(slave())
            .stdout(slave())
            .spawn()
            .expect("pinwatch is in the PATH");
        Self {
            child,
            terminal: terminal.master.into(),
            drawn: Vec::new(),
        }
    }

    /// Waits until `top` has drawn a word.
    pub fn wait_for(&mut self, word: &str) {
        let mut some = [0; 4096];
        while !String::from_utf8_lossy(&self.drawn).contains(word) {
            let read = self.terminal.read(&mut some).expect("it draws");
            self.drawn.extend(&some[..read]);
        }
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
