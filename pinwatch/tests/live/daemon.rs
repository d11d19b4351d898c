//! A running `pinwatch run`, and its metrics.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const URL: &str = "http://127.0.0.1:10746";

/// What it logs once everything is attached.
pub const WATCHING: &str = "watching with";

/// Both kinds of hook.
pub const KINDS: [&str; 2] = ["fentry", "kprobe"];

pub struct Daemon {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Daemon {
    /// Starts a daemon and waits until it says that it watches.
    pub fn start(args: &[&str]) -> Self {
        let mut daemon = Self::spawn(args);
        let text = daemon.logs(WATCHING);
        assert!(!text.contains("cannot attach"), "{text}");
        daemon
    }

    /// Starts a daemon.
    pub fn spawn(args: &[&str]) -> Self {
        let mut child = Command::new("pinwatch")
            .arg("run")
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .expect("pinwatch is in the PATH");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, log }
    }

    /// Waits until it logs some words, which come before it watches or say so;
    /// returns what it logged until then.
    pub fn logs(&mut self, words: &str) -> String {
        let mut text = String::new();
        while !text.lines().last().unwrap_or_default().contains(words) {
            assert!(!text.contains(WATCHING), "it watches already:\n{text}");
            assert!(
                self.log.read_line(&mut text).expect("readable") > 0,
                "the daemon ended:\n{text}"
            );
        }
        text
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&get("/metrics"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    /// Waits for the end; returns the status and what was logged since the start.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let mut text = String::new();
        while self.log.read_line(&mut text).expect("readable") > 0 {}
        (self.child.wait().expect("a child"), text)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn get(path: &str) -> String {
    let mut response = ureq::get(format!("{URL}{path}"))
        .call()
        .expect("the daemon answers");
    response.body_mut().read_to_string().expect("text")
}

/// None where the answer is not a success.
pub fn try_get(path: &str) -> Option<String> {
    let mut response = ureq::get(format!("{URL}{path}")).call().ok()?;
    response.body_mut().read_to_string().ok()
}

/// Samples by "name{labels}", labels as exported.
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').expect("a sample");
                (name.to_owned(), value.parse().expect("a number"))
            });
        let mut all = BTreeMap::new();
        for (name, value) in samples {
            let before = all.insert(name, value);
            assert!(before.is_none(), "a sample stands there twice: {text}");
        }
        Self(all)
    }

    /// What has been counted since an earlier look.
    pub fn since(&self, before: &Self) -> Self {
        let grown = |(key, value): (&String, &f64)| {
            (key.clone(), value - before.0.get(key).unwrap_or(&0.0))
        };
        Self(self.0.iter().map(grown).collect())
    }

    /// The sum of all series of a metric, of those with a label if one is given.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        self.series(name)
            .filter(|(labels, _)| labels.contains(label))
            .map(|(_, value)| value)
            .sum()
    }

    /// How many of `pins` may be lost: none where the kernel does not preempt programs, one in a
    /// thousand where programs disable preemption. Where they cannot, losses come in bursts: while
    /// preempted tasks are inside all programs of a hook, every pin on their CPU is lost.
    pub fn may_lose(&self, pins: u64) -> u64 {
        let skips = |label| {
            self.series("pinwatch_program_skips_total")
                .any(|(labels, _)| labels.contains(label))
        };
        if !skips("twin=\"yes\"") {
            0
        } else if skips("\"pin_exit_fexit_second\"") {
            pins / 100
        } else {
            pins / 1000
        }
    }

    pub fn total(&self, name: &str) -> f64 {
        self.sum(name, "")
    }

    /// Labels and value of each series of a metric.
    pub fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(key, value)| {
            let rest = key.strip_prefix(name)?;
            (rest.is_empty() || rest.starts_with('{')).then_some((rest, *value))
        })
    }
}
