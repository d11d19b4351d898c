//! What libFuzzer prints while it runs.

/// State of a run, from the lines so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub executions: u64,
    /// Covered edges of the code.
    pub coverage: u64,
    /// Number of kept inputs and their size, such as `12/3Kb`.
    pub corpus: String,
    /// Why it failed: the message of a panic, or libFuzzer's own.
    pub failure: Option<String>,
    /// File with the input that failed.
    pub input: Option<String>,
    /// Whether the next line is the message of a panic.
    pub message_follows: bool,
}

impl Progress {
    /// Takes a line of standard error.
    pub fn line(&mut self, line: &str) {
        if std::mem::take(&mut self.message_follows)
            && let Some(failure) = &mut self.failure
        {
            *failure = format!("{failure} {line}");
        } else if let Some(status) = line.strip_prefix('#') {
            self.status(status);
        } else if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = number.trim().parse().unwrap_or(self.executions);
        } else if let Some((_, place)) = line.split_once("panicked at ") {
            self.failure = Some(place.to_owned());
            self.message_follows = true;
        } else if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.input = Some(file.trim().to_owned());
        } else if let Some((_, error)) = line.split_once("ERROR: libFuzzer: ") {
            self.failure.get_or_insert_with(|| error.to_owned());
        }
    }

    /// A status such as `512 NEW cov: 9 ft: 10 corp: 2/5b lim: 4 exec/s: 0 rss: 30Mb`.
    fn status(&mut self, status: &str) {
        let mut words = status.split_whitespace();
        let Some(executions) = words.next().and_then(|number| number.parse().ok()) else {
            return;
        };
        self.executions = executions;
        while let Some(word) = words.next() {
            match word {
                "cov:" => self.coverage = words.next().and_then(|n| n.parse().ok()).unwrap_or(0),
                "corp:" => self.corpus = words.next().unwrap_or_default().to_owned(),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_and_its_failure() {
        let mut progress = Progress::default();
        let text = "INFO: Seed: 1\n#2\tINITED cov: 7 ft: 8 corp: 1/1b exec/s: 0 rss: 30Mb\n\
            #512\tNEW    cov: 9 ft: 10 corp: 2/5Kb lim: 4 exec/s: 0 rss: 30Mb L: 4/4 MS: 1 CopyPart-\n\
            \nthread '<unnamed>' (7) panicked at src/a.rs:3:5:\nattempt to negate with overflow\n\
            note: run with RUST_BACKTRACE=1\n==7== ERROR: libFuzzer: deadly signal\n\
            artifact_prefix='x/'; Test unit written to x/crash-1\nstat::number_of_executed_units: 600\n";
        text.lines().for_each(|line| progress.line(line));
        let failure = "src/a.rs:3:5: attempt to negate with overflow".to_owned();
        let expected = Progress {
            executions: 600,
            coverage: 9,
            corpus: "2/5Kb".to_owned(),
            failure: Some(failure),
            input: Some("x/crash-1".to_owned()),
            message_follows: false,
        };
        assert_eq!(progress, expected);
        let mut slow = Progress::default();
        slow.line("==7== ERROR: libFuzzer: timeout after 10 seconds");
        assert_eq!(slow.failure.as_deref(), Some("timeout after 10 seconds"));
    }
}
