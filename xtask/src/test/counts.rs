//! Counts tests: passes on the output of a test program line by line, and reads its results.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::generate::builds_md::BuildResult;
use crate::generate::kernels_md::ScenarioResult;

/// What a live test prints, before the reason, if it does not apply to the kernel.
const SKIPPED: &str = "skipped: ";

/// The results so far. Clones share them.
#[derive(Clone, Default)]
pub struct Counter {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    /// Names of failed tests.
    pub failures: Vec<String>,
    /// Tests that do not apply where they ran, with the reason.
    pub skipped: Vec<String>,
    /// Test programs that ran to their end.
    pub programs: u64,
    /// How long each test of a program that runs one at a time took.
    pub durations: Vec<(String, Duration)>,
    /// Rows of docs/kernels.md.
    pub rows: Vec<ScenarioResult>,
    /// Rows of docs/builds.md.
    pub builds: Vec<BuildResult>,
}

impl Counter {
    pub fn pass(&self) {
        self.with(|counts| counts.passed += 1);
    }

    pub fn fail(&self, name: &str) {
        self.with(|counts| {
            counts.failed += 1;
            counts.failures.push(name.to_owned());
        });
    }

    /// Adds the results of test programs that were counted separately. A program that did not run to
    /// its end, or failed without naming a test, counts as one failure.
    pub fn add(&self, name: &str, separate: &Self, succeeded: bool) {
        let separate = separate.counts();
        if separate.programs == 0 || (!succeeded && separate.failed == 0) {
            self.fail(name);
        }
        self.with(|counts| {
            counts.passed += separate.passed;
            counts.failed += separate.failed;
            counts.programs += separate.programs;
            counts.failures.extend(separate.failures);
            counts.skipped.extend(separate.skipped);
            counts.durations.extend(separate.durations);
        });
    }

    pub fn counts(&self) -> Counts {
        self.with(|counts| counts.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self
            .counts
            .lock()
            .expect("no thread panics while it counts"))
    }
}

/// Reads the lines of one test program.
struct Reader {
    counter: Counter,
    prefix: String,
    /// The test whose output follows.
    test: String,
    /// A test that has begun and whose result is not on the same line.
    running: Option<String>,
    /// When the last test ended; none where several run at a time.
    last: Option<Instant>,
    /// Tests that were skipped; libtest counts them as passed.
    skipped: u64,
}

impl Reader {
    fn read(&mut self, line: &str) {
        if line.starts_with("running ") {
            self.last = self.last.map(|_| Instant::now());
        } else if let Some((passed, failed)) = result(line) {
            let skipped = std::mem::take(&mut self.skipped);
            self.counter.with(|counts| {
                counts.passed += passed.saturating_sub(skipped);
                counts.failed += failed;
                counts.programs += 1;
            });
        } else if let Some(row) = ScenarioResult::parse(line) {
            self.counter.with(|counts| counts.rows.push(row));
        } else if let Some(row) = BuildResult::parse(line) {
            self.counter.with(|counts| counts.builds.push(row));
        } else if let Some(test) = output_of(line) {
            test.clone_into(&mut self.test);
        } else if let Some(reason) = line.strip_prefix(SKIPPED) {
            self.skipped += 1;
            let skipped = format!("{}{}: {reason}", self.prefix, self.test);
            self.counter.with(|counts| counts.skipped.push(skipped));
        } else if let Some((test, end)) = begun(line) {
            self.running = None;
            if ["ok", "FAILED"].contains(&end) || end.starts_with("ignored") {
                self.end(test, end);
            } else {
                // A child of the test has written before the result.
                self.running = Some(test.to_owned());
            }
        } else if ["ok", "FAILED"].contains(&line)
            && let Some(test) = self.running.take()
        {
            self.end(&test, line);
        }
    }

    fn end(&mut self, test: &str, end: &str) {
        let name = format!("{}{test}", self.prefix);
        if end == "FAILED" {
            self.counter
                .with(|counts| counts.failures.push(name.clone()));
        }
        if let Some(last) = &mut self.last {
            let took = last.elapsed();
            *last = Instant::now();
            self.counter
                .with(|counts| counts.durations.push((name, took)));
        }
    }
}

/// `test result: ok. 3 passed; 1 failed; ...`
fn result(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |word| {
        let part = counts
            .split(';')
            .find_map(|part| part.trim().strip_suffix(word))?;
        part.trim().parse().ok()
    };
    Some((count("passed")?, count("failed")?))
}

/// `test name ... FAILED`
fn begun(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.split_once(" ... ")
}

/// `---- name stdout ----`
fn output_of(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// Prints each line behind a prefix, and counts the results among them.
pub struct Printer<W: Write> {
    out: W,
    reader: Reader,
    line: Vec<u8>,
}

impl<W: Write> Printer<W> {
    pub fn new(out: W, prefix: &str, counter: &Counter) -> Self {
        Self {
            out,
            reader: Reader {
                counter: counter.clone(),
                prefix: prefix.to_owned(),
                test: String::new(),
                running: None,
                last: Some(Instant::now()),
                skipped: 0,
            },
            line: Vec::new(),
        }
    }

    /// For programs that run several tests at a time: their durations are not known.
    pub fn untimed(out: W, counter: &Counter) -> Self {
        let mut printer = Self::new(out, "", counter);
        printer.reader.last = None;
        printer
    }

    fn print(&mut self) -> io::Result<()> {
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_end();
        self.reader.read(line);
        let line = format!("{}{line}", self.reader.prefix);
        // One write, so that two guests never share a line.
        self.out
            .write_all(format!("{}\n", line.trim_end()).as_bytes())?;
        self.line.clear();
        Ok(())
    }
}

impl<W: Write> Write for Printer<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        for &byte in data {
            if byte == b'\n' {
                self.print()?;
            } else {
                self.line.push(byte);
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Drop for Printer<W> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            // Stdout is closed: nobody reads the output any more.
            let _ = self.print();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str, prefix: &str) -> Counter {
        let counter = Counter::default();
        let mut printer = Printer::new(io::sink(), prefix, &counter);
        // In pieces, as pipes deliver it, and without a last line feed.
        for piece in output.as_bytes().chunks(7) {
            printer.write_all(piece).unwrap();
        }
        drop(printer);
        counter
    }

    #[test]
    fn results_of_libtest() {
        let counter = read(
            "running 2 tests\ntest a ... ok\ntest b::c ... FAILED\n\n\
             test result: FAILED. 1 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "[6.12] ",
        );
        counter.pass();
        counter.fail("clippy");
        let counts = counter.counts();
        assert_eq!((counts.passed, counts.failed), (2, 2));
        assert_eq!((counts.programs, counts.skipped.len()), (1, 0));
        assert_eq!(counts.failures, ["[6.12] b::c", "clippy"]);
        let timed: Vec<_> = counts.durations.iter().map(|(name, _)| name).collect();
        assert_eq!(timed, ["[6.12] a", "[6.12] b::c"]);
    }

    #[test]
    fn a_result_may_come_after_other_output() {
        let counter = read("test a ... 3 pins\nmore\nFAILED\ntest b ... ok\nok\n", "");
        assert_eq!(counter.counts().failures, ["a"]);
        assert_eq!(counter.counts().durations.len(), 2);
    }

    #[test]
    fn a_skipped_test_has_not_passed() {
        let counter = read(
            "running 2 tests\ntest a ... ok\ntest b ... ok\n\nsuccesses:\n\n\
             ---- a stdout ----\n3 pins\n\n---- b stdout ----\nskipped: it is too old\n\n\
             successes:\n    a\n    b\n\ntest result: ok. 2 passed; 0 failed; 0 ignored",
            "[5.10] ",
        );
        let counts = counter.counts();
        assert_eq!((counts.passed, counts.failed), (1, 0));
        assert_eq!(counts.skipped, ["[5.10] b: it is too old"]);
    }

    #[test]
    fn a_program_must_run_to_its_end() {
        let added = |line: &str, succeeded| {
            let counter = Counter::default();
            counter.add("6.12", &read(line, ""), succeeded);
            let counts = counter.counts();
            (counts.passed, counts.failed)
        };
        assert_eq!(
            added("test result: ok. 3 passed; 0 failed; 0 ignored", true),
            (3, 0)
        );
        assert_eq!(
            added("test result: FAILED. 2 passed; 1 failed; 0 ignored", false),
            (2, 1)
        );
        assert_eq!(
            added("test result: ok. 3 passed; 0 failed; 0 ignored", false),
            (3, 1)
        );
        assert_eq!(added("test a ... ok", true), (0, 1));
        assert_eq!(added("", false), (0, 1));
    }
}
