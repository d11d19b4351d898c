//! A running `pinwatch run`, and its metrics.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const URL: &str = "http://127.0.0.1:10746";

/// Log message once all hooks are attached.
pub const WATCHING: &str = "watching with";

/// Both kinds of hook.
pub const KINDS: [&str; 2] = ["fentry", "kprobe"];

/// A child process `pinwatch run`. Killed when dropped.
pub struct Daemon {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Daemon {
    /// Starts a daemon and waits until its hooks are attached. Panics if one is refused.
    pub fn start(args: &[&str]) -> Self {
        let mut daemon = Self::spawn(args);
        let text = daemon.logs(WATCHING);
        assert!(!text.contains("cannot attach"), "{text}");
        daemon
    }

    /// Starts a daemon without waiting.
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

    /// Waits until a log line contains `words`, and returns the log up to that line. Panics if the daemon
    /// ends or has attached its hooks before.
    pub fn logs(&mut self, words: &str) -> String {
        let mut text = String::new();
        while !text.lines().last().unwrap_or_default().contains(words) {
            assert!(
                !text.contains(WATCHING),
                "the daemon watches, and has not logged {words:?}:\n{text}"
            );
            assert!(
                self.log.read_line(&mut text).expect("readable") > 0,
                "the daemon ended before it logged {words:?}:\n{text}"
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

    /// Waits for the end. Returns the exit status and the log lines that were not read yet.
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

/// The body of a response. Panics unless the status is a success.
pub fn get(path: &str) -> String {
    let mut response = ureq::get(format!("{URL}{path}"))
        .call()
        .expect("the daemon answers");
    response.body_mut().read_to_string().expect("text")
}

/// The body of a response, or `None` unless the status is a success.
pub fn try_get(path: &str) -> Option<String> {
    let mut response = ureq::get(format!("{URL}{path}")).call().ok()?;
    response.body_mut().read_to_string().ok()
}

/// Samples by `NAME{LABELS}`, as exported.
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
            assert!(before.is_none(), "a sample is exported twice: {text}");
        }
        Self(all)
    }

    /// Growth of each sample since an earlier scrape.
    pub fn since(&self, before: &Self) -> Self {
        let grown = |(key, value): (&String, &f64)| {
            (key.clone(), value - before.0.get(key).unwrap_or(&0.0))
        };
        Self(self.0.iter().map(grown).collect())
    }

    /// The sum of a metric over the series whose labels contain `label`.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        self.series(name)
            .filter(|(labels, _)| labels.contains(label))
            .map(|(_, value)| value)
            .sum()
    }

    /// The number of `pins` that may be lost: none if the kernel does not preempt programs, one in a
    /// thousand if programs disable preemption. If they cannot, losses come in bursts: while preempted
    /// tasks are inside all programs of a hook, every pin on their CPU is lost.
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
