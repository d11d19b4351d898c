//! The steps of `cargo xtask test`: what each did, when it began and how long it took.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::counts::Counter;
use crate::child::Interrupted;

/// How many of the slowest live tests the summary names.
const SLOWEST: usize = 12;

/// Runs steps, counts failed ones, and remembers their times.
pub struct Steps<'a> {
    counter: &'a Counter,
    started: Instant,
    done: Mutex<Vec<Step>>,
}

struct Step {
    name: String,
    began: Duration,
    took: Duration,
}

impl<'a> Steps<'a> {
    pub fn new(counter: &'a Counter) -> Self {
        Self {
            counter,
            started: Instant::now(),
            done: Mutex::default(),
        }
    }

    /// Runs one step. A failure is printed and counted; the result is then `None`. An error means that
    /// the user interrupted.
    pub fn run<T>(&self, name: &str, act: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        eprintln!("xtask: {name}");
        let (began, done) = self.time(name, act);
        let seconds = (self.started.elapsed() - began).as_secs();
        match done {
            Ok(made) => {
                eprintln!("xtask: {name}: done in {seconds} s");
                Ok(Some(made))
            }
            Err(error) if error.is::<Interrupted>() => Err(error),
            Err(error) => {
                eprintln!("xtask: {name}: FAILED after {seconds} s: {error:#}");
                self.counter.fail(name);
                Ok(None)
            }
        }
    }

    /// The same for a step that is a test of its own: success counts as one passed test.
    pub fn check(&self, name: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.run(name, act)?.is_some() {
            self.counter.pass();
        }
        Ok(())
    }

    /// Remembers how long something took, whatever its result. Returns when it began, too.
    pub fn time<T>(&self, name: &str, act: impl FnOnce() -> T) -> (Duration, T) {
        let began = self.started.elapsed();
        let result = act();
        let took = self.started.elapsed() - began;
        self.done.lock().expect("no step panics").push(Step {
            name: name.to_owned(),
            began,
            took,
        });
        (began, result)
    }

    /// A table of all steps in the order in which they began, and the slowest live tests.
    pub fn summary(&self) -> String {
        let mut done = self.done.lock().expect("no step panics");
        done.sort_by_key(|step| step.began);
        let mut text = String::from("  began    took  step (seconds)\n");
        for Step { name, began, took } in done.iter() {
            let (began, took) = (began.as_secs(), took.as_secs());
            let _ = writeln!(text, "{began:>7} {took:>7}  {name}");
        }
        let _ = writeln!(
            text,
            "{:>7} {:>7}  all",
            0,
            self.started.elapsed().as_secs()
        );
        let mut tests = self.counter.counts().durations;
        tests.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        for (name, took) in tests.iter().take(SLOWEST) {
            let _ = writeln!(text, "        {:>7.1}  {name}", took.as_secs_f64());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn failed_steps_are_counted_and_all_are_timed() {
        let counter = Counter::default();
        let steps = Steps::new(&counter);
        steps.check("format", || Ok(())).unwrap();
        assert_eq!(steps.run("build", || Ok(7)).unwrap(), Some(7));
        let failed: Option<()> = steps.run("lint", || bail!("a warning")).unwrap();
        assert_eq!(failed, None);
        let interrupted = steps.run::<()>("guests", || Err(Interrupted.into()));
        assert!(interrupted.is_err());
        let counts = counter.counts();
        assert_eq!((counts.passed, counts.failed), (1, 1));
        assert_eq!(counts.failures, ["lint"]);
        let names = ["format", "build", "lint", "guests", "all"];
        let summary = steps.summary();
        let lines: Vec<_> = summary.lines().skip(1).collect();
        assert!(
            lines
                .iter()
                .zip(names)
                .all(|(line, name)| line.ends_with(name))
        );
    }
}
