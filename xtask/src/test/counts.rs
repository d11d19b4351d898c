//! Counts tests: passes on what a test program prints, line by line, and reads its results.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use crate::generate::kernels_md::Row;

/// What was counted so far; shared by all that count.
#[derive(Clone, Default)]
pub struct Counter {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    /// what failed, by name
    pub names: Vec<String>,
    /// how many test programs came to their end
    pub programs: u64,
    /// rows of docs/kernels.md
    pub rows: Vec<Row>,
}

impl Counter {
    pub fn pass(&self) {
        self.with(|counts| counts.passed += 1);
    }

    pub fn fail(&self, name: &str) {
        self.with(|counts| {
            counts.failed += 1;
            counts.names.push(name.to_owned());
        });
    }

    /// Adds the results of test programs that were counted apart, to see whether they came to
    /// their end: one that did not, or failed without saying which test, counts as one failure.
    pub fn add(&self, name: &str, apart: &Self, succeeded: bool) {
        let apart = apart.counts();
        if apart.programs == 0 || (!succeeded && apart.failed == 0) {
            self.fail(name);
        }
        self.with(|counts| {
            counts.passed += apart.passed;
            counts.failed += apart.failed;
            counts.programs += apart.programs;
            counts.names.extend(apart.names);
        });
    }

    pub fn counts(&self) -> Counts {
        self.with(|counts| counts.clone())
    }

    /// Reads one line of libtest's.
    fn read(&self, line: &str, prefix: &str) {
        if let Some((passed, failed)) = result(line) {
            self.with(|counts| {
                counts.passed += passed;
                counts.failed += failed;
                counts.programs += 1;
            });
        } else if let Some(row) = Row::parse(line) {
            self.with(|counts| counts.rows.push(row));
        } else if let Some(name) = failure(line) {
            self.with(|counts| counts.names.push(format!("{prefix}{name}")));
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.counts.lock().expect("nobody panics while counting"))
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
fn failure(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// Prints each line behind a prefix, and counts the results among them.
pub struct Printer<W: Write> {
    out: W,
    prefix: String,
    counter: Counter,
    line: Vec<u8>,
}

impl<W: Write> Printer<W> {
    pub fn new(out: W, prefix: &str, counter: &Counter) -> Self {
        Self {
            out,
            prefix: prefix.to_owned(),
            counter: counter.clone(),
            line: Vec::new(),
        }
    }

    fn print(&mut self) -> io::Result<()> {
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_end();
        self.counter.read(line, &self.prefix);
        let line = format!("{}{line}", self.prefix);
        // In one piece, so that two guests never share a line.
        self.out.write_all(
            format!(
                "{}
",
                line.trim_end()
            )
            .as_bytes(),
        )?;
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
            // Nothing can be done about a closed stdout, and nothing needs to be.
            let _ = self.print();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_libtest() {
        let counter = Counter::default();
        let mut printer = Printer::new(io::sink(), "[6.12] ", &counter);
        let output = "running 2 tests\ntest a ... ok\ntest b::c ... FAILED\n\n\
            test result: FAILED. 1 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        // In pieces, as pipes deliver it, and without a last line feed.
        for piece in output.as_bytes().chunks(7) {
            printer.write_all(piece).unwrap();
        }
        drop(printer);
        counter.pass();
        counter.fail("clippy");
        let names = vec!["[6.12] b::c".to_owned(), "clippy".to_owned()];
        assert_eq!(
            counter.counts(),
            Counts {
                passed: 2,
                failed: 2,
                names,
                programs: 1,
                rows: Vec::new()
            }
        );
    }

    #[test]
    fn a_program_must_come_to_its_end() {
        let added = |line: &str, succeeded| {
            let (counter, apart) = (Counter::default(), Counter::default());
            apart.read(line, "");
            counter.add("6.12", &apart, succeeded);
            (counter.counts().passed, counter.counts().failed)
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
