//! `cargo xtask bench profile`: breaks down the instructions that pinwatch adds to a pin.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::document::{self, thousands};
use super::figures::{Figures, KINDS, PAIRS};
use super::guest::BenchGuest;
use super::overhead::kernels_or_default;
use crate::build;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, Kernel};
use crate::setup::{self, Purpose};

/// Break down the instructions that pinwatch adds to a pin of one page and to a short-term pin
///
/// A run on all kernels writes the tables to docs/performance.md.
#[derive(clap::Args)]
pub struct ProfileArgs {
    /// Measure on this kernel only (repeatable) [default: 6.1, 6.12 and 7.3]
    #[arg(long = "kernel", value_name = "SERIES", value_parser = kernels::parse)]
    kernels: Vec<&'static Kernel>,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

/// Helpers that a pin with one pass calls once each at entry, pass and return.
const QUESTIONS: [(&str, &str); 2] = [
    ("clock", "the clock, three times"),
    ("thread", "the thread's id, three times"),
];
/// Sets without one measurement, and its name.
const LEFT_OUT: [(&str, &str); 2] = [
    ("no origin", "the origin: the registers of the system call"),
    ("no zones", "the zone of a page, of one pin in 32.5"),
];

pub fn main(args: &ProfileArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let [program, _] = build::bench_programs()?;
    let machine = BenchGuest::new(&cache, &args.mirrors, program);
    let kernels = kernels_or_default(&args.kernels);
    let measured = machine.on_each(&kernels, |kernel| {
        let mut figures = Figures::default();
        figures.read(&machine.run(kernel, &["profile"])?)?;
        Ok(figures)
    })?;
    let (mut one_page, mut short_term) = (Vec::new(), Vec::new());
    for (kernel, figures) in kernels.iter().zip(&measured) {
        for (kind, pair) in KINDS.into_iter().zip(PAIRS) {
            let head = format!("{}, {kind}", kernel.series);
            let parts = Parts {
                figures,
                kind,
                pair,
            };
            one_page.push((head.clone(), parts.one_page()?));
            short_term.push((head, parts.short_term()?));
        }
    }
    let text = format!(
        "A pin of one page:\n\n{}\nA short-term pin:\n\n{}\n{}",
        table(&one_page),
        table(&short_term),
        questions(&kernels, &measured)?
    );
    println!("\n{text}");
    if args.kernels.is_empty() {
        document::write("profile", &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The measurements on one kernel with one kind of hook.
struct Parts<'a> {
    figures: &'a Figures,
    kind: &'static str,
    pair: &'static str,
}

/// A part and its instructions.
type Part = (&'static str, i64);

impl Parts<'_> {
    fn added(&self, set: &str, pin: &str) -> Result<i64> {
        added(self.figures, set, pin)
    }

    fn of_kind(&self, set: &str, pin: &str) -> Result<i64> {
        self.added(&format!("{set}, {}", self.kind), pin)
    }

    fn one_page(&self) -> Result<Vec<Part>> {
        let pin = "one";
        let all = self.of_kind("all", pin)?;
        let mut rows = vec![(
            "entering and leaving the programs",
            self.of_kind("hooks", pin)?,
        )];
        for (question, what) in QUESTIONS {
            rows.push((what, asked(self.figures, question)? * 3));
        }
        for (set, what) in LEFT_OUT {
            rows.push((what, all - self.of_kind(set, pin)?));
        }
        let rest = all - rows.iter().map(|(_, cost)| cost).sum::<i64>();
        rows.push((
            "the rest: finding the slot, filling it, phases, the fold",
            rest,
        ));
        rows.push(("*total*", all));
        rows.push((
            "*the aim: two empty pairs*",
            2 * self.added(self.pair, pin)?,
        ));
        Ok(rows)
    }

    fn short_term(&self) -> Result<Vec<Part>> {
        let pin = "short_term";
        let [hooks, all] = [self.of_kind("hooks", pin)?, self.of_kind("all", pin)?];
        let rest = "the test of the flags; at a kretprobe, which sees none, the look for a slot";
        Ok(vec![
            ("entering and leaving the programs", hooks),
            (rest, all - hooks),
            ("*total*", all),
            (
                "*the aim: 1.1 empty pairs*",
                self.added(self.pair, pin)? * 11 / 10,
            ),
        ])
    }
}

fn added(figures: &Figures, set: &str, pin: &str) -> Result<i64> {
    figures.median_added(set, pin).with_context(|| {
        let why = figures.error(set).unwrap_or("it printed none");
        format!("no figure of {set}: {why}")
    })
}

/// The instructions of one helper call, without the program that makes it.
fn asked(figures: &Figures, question: &str) -> Result<i64> {
    Ok(added(figures, question, "one")? - added(figures, "empty fentry", "one")?)
}

/// One row per part, one column per kernel and kind of hook.
fn table(columns: &[(String, Vec<Part>)]) -> String {
    let mut text = String::from("| Part |");
    for (head, _) in columns {
        let _ = write!(text, " {head} |");
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(columns.len()));
    let parts = columns.first().map_or(&[][..], |(_, rows)| rows);
    for (at, (what, _)) in parts.iter().enumerate() {
        let _ = write!(text, "| {what} |");
        for (_, rows) in columns {
            let _ = write!(text, " {} |", thousands(rows[at].1));
        }
        text.push('\n');
    }
    text
}

/// The cost of further helpers on each kernel.
fn questions(kernels: &[&Kernel], measured: &[Figures]) -> Result<String> {
    let mut said = Vec::new();
    for (kernel, figures) in kernels.iter().zip(measured) {
        let [registers, memory] = ["registers", "memory"].map(|what| asked(figures, what));
        said.push(format!("{}: {} and {}", kernel.series, registers?, memory?));
    }
    let said = said.join("; ");
    Ok(format!(
        "One look for the registers, and one reading of kernel memory: {said}.\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up() {
        let sets = [
            ("nothing", 1000),
            ("empty fentry", 1100),
            (PAIRS[0], 1200),
            ("clock", 1180),
            ("thread", 1110),
            ("registers", 1120),
            ("memory", 1190),
            ("hooks, fentry", 1400),
            ("all, fentry", 2000),
            ("no origin, fentry", 1960),
            ("no zones, fentry", 1970),
        ];
        let mut figures = Figures::default();
        for (set, clock) in sets {
            for pin in ["one", "short_term"] {
                let line = format!("{{\"set\":\"{set}\",\"pin\":\"{pin}\",\"clock\":{clock}}}\n");
                figures.read(&line).unwrap();
            }
        }
        let [kind, pair] = [KINDS[0], PAIRS[0]];
        let parts = |figures| Parts {
            figures,
            kind,
            pair,
        };
        let one = table(&[("x".to_owned(), parts(&figures).one_page().unwrap())]);
        assert!(one.contains("clock, three times | 240 |"), "{one}");
        assert!(one.contains("the fold | 260 |"), "{one}");
        assert!(one.contains("| *total* | 1,000 |"), "{one}");
        assert!(one.contains("two empty pairs* | 400 |"), "{one}");
        let short_term = table(&[("x".to_owned(), parts(&figures).short_term().unwrap())]);
        assert!(short_term.contains("for a slot | 600 |"), "{short_term}");
        assert!(
            short_term.contains("1.1 empty pairs* | 220 |"),
            "{short_term}"
        );
        assert!(parts(&Figures::default()).one_page().is_err());
    }
}
