//! `cargo xtask bench profile`: where the instructions go that pinwatch adds to a pin of one page.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::document::{self, thousands};
use super::figures::Figures;
use super::machine::Machine;
use crate::apt::MirrorArgs;
use crate::build;
use crate::cache::Cache;
use crate::kernels;
use crate::setup::{self, Purpose};

/// Take apart what pinwatch adds to a pin of one page
///
/// The table goes into docs/performance.md.
#[derive(clap::Args)]
pub struct ProfileArgs {
    #[command(flatten)]
    mirrors: MirrorArgs,
}

/// Whose path is that of the later ones, where an entry by fentry is one.
const KERNEL: &str = "6.12";
const KINDS: [&str; 2] = ["fentry", "kprobe"];
/// The questions to the kernel that a pin of one sweep makes, and how often.
const QUESTIONS: [(&str, &str, i64); 2] = [
    ("clock", "the clock, three times", 3),
    ("thread", "the thread's id, three times", 3),
];
/// What is left out, and what that is.
const LEFT_OUT: [(&str, &str); 2] = [
    ("no origin", "the origin: the registers of the system call"),
    ("no zones", "the zone of a page, of one pin in 16.5"),
];

pub fn main(args: &ProfileArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let [program, _] = build::bench_programs()?;
    let machine = Machine::new(&cache, &args.mirrors, program);
    let mut figures = Figures::default();
    figures.read(&machine.run(kernels::parse(KERNEL)?, &["profile"])?)?;
    let table = table(&figures)?;
    println!("\n{table}");
    document::write("profile", &table)?;
    Ok(ExitCode::SUCCESS)
}

fn table(figures: &Figures) -> Result<String> {
    let added = |set: &str| {
        let added = figures.median_added(set, "one");
        added.with_context(|| {
            let why = figures.error(set).unwrap_or("it printed none");
            format!("no figure of {set}: {why}")
        })
    };
    let empty = added("empty fentry")?;
    let mut rows: Vec<(&str, [i64; 2])> = Vec::new();
    let both = |row: &dyn Fn(&str) -> Result<i64>| -> Result<[i64; 2]> {
        Ok([row(KINDS[0])?, row(KINDS[1])?])
    };
    let all = both(&|kind| added(&format!("all, {kind}")))?;
    let hooks = both(&|kind| added(&format!("hooks, {kind}")))?;
    rows.push(("entering and leaving the programs", hooks));
    for (question, what, times) in QUESTIONS {
        rows.push((what, [(added(question)? - empty) * times; 2]));
    }
    for (set, what) in LEFT_OUT {
        let cost =
            |kind: &str| Ok(added(&format!("all, {kind}"))? - added(&format!("{set}, {kind}"))?);
        rows.push((what, both(&cost)?));
    }
    let known = |n: usize| rows.iter().map(|(_, cost)| cost[n]).sum::<i64>();
    let rest = [all[0] - known(0), all[1] - known(1)];
    rows.push((
        "the rest: finding the slot, filling it, phases, the fold",
        rest,
    ));
    rows.push(("*all of it*", all));
    let mut text = String::from("| Part | by fentry | by kprobe |\n|---|---|---|\n");
    for (what, [fentry, kprobe]) in rows {
        let _ = writeln!(
            text,
            "| {what} | {} | {} |",
            thousands(fentry),
            thousands(kprobe)
        );
    }
    let [registers, memory] = [added("registers")? - empty, added("memory")? - empty];
    let _ = writeln!(
        text,
        "\n{KERNEL}, a pin of one page. One look for the registers is {registers}, one reading of kernel memory {memory}."
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up() {
        let sets = [
            ("nothing", 1000),
            ("empty fentry", 1100),
            ("clock", 1180),
            ("thread", 1110),
            ("registers", 1120),
            ("memory", 1190),
            ("hooks, fentry", 1400),
            ("all, fentry", 2000),
            ("no origin, fentry", 1960),
            ("no zones, fentry", 1970),
            ("hooks, kprobe", 2400),
            ("all, kprobe", 3000),
            ("no origin, kprobe", 2960),
            ("no zones, kprobe", 2970),
        ];
        let mut figures = Figures::default();
        for (set, clock) in sets {
            let line = format!("{{\"set\":\"{set}\",\"pin\":\"one\",\"clock\":{clock}}}\n");
            figures.read(&line).unwrap();
        }
        let table = table(&figures).unwrap();
        assert!(table.contains("three times | 240 | 240 |"), "{table}");
        assert!(table.contains("the fold | 260 | 260 |"), "{table}");
        assert!(table.contains("| *all of it* | 1,000 | 2,000 |"), "{table}");
        assert!(table.contains("is 20, one reading of kernel memory 90."));
        assert!(super::table(&Figures::default()).is_err());
    }
}
