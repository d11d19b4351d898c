//! `cargo xtask bench reliability`: pins that are missed, or get a wrong duration, beside other
//! programs that use BPF or probes.
//!
//! The guest's part is `pinwatch/benches/guest/reliability.rs`.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value, json};

use super::document::{self, thousands};
use super::other_tools::{NEIGHBOURS as TOOLS, OtherTools};
use crate::build;
use crate::cache::Cache;
use crate::child::Interrupted;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{self, Flavour};
use crate::guest::collected::collect_out;
use crate::guest::qemu::{self, Accel, Tcg};
use crate::guest::{Guest, Placed};
use crate::setup::{self, Purpose};

/// Check that pins are measured, or counted as lost, beside other programs that use BPF
///
/// Boots one guest per kernel. In it, `pinwatch load threads` makes 1,440 pins a round while
/// pinwatch and a neighbour run. The load's own log is compared with the metrics and, pin by pin,
/// with a follower's events.
///
/// Fails, and names the rows, if pins are neither measured nor counted as lost, if more than one in
/// 1,000 is lost, or if an event does not lie inside its own system call. With the default number of
/// rounds the rows go into docs/reliability.md and docs/reliability.json. Rows of other kernels and
/// neighbours stay, unless they are of an older point release.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench reliability
  cargo xtask bench reliability --kernel 7.3 --neighbour updates --rounds 1
  cargo xtask bench reliability --kernel 6.1-preempt --kernel 6.12-rt")]
pub struct ReliabilityArgs {
    /// On this kernel only (repeatable) [default: all]
    #[arg(long = "kernel", value_name = "NAME", value_parser = PossibleValuesParser::new(VARIANTS.map(|variant| variant.name)))]
    kernels: Vec<String>,
    /// Beside this neighbour only (repeatable) [default: all]
    #[arg(long = "neighbour", value_name = "NAME", value_parser = PossibleValuesParser::new(NEIGHBOURS.map(|(name, _)| name)))]
    neighbours: Vec<String>,
    /// Rounds with a follower; one more has none
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    #[command(flatten)]
    mirrors: MirrorArgs,
}

const ROUNDS: u32 = 3;
const TIMEOUT: Duration = Duration::from_secs(3600);
const PROGRAM: &str = "/usr/bin/pinwatch-bench";
const DOCUMENT: &str = "reliability.md";
const JSON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.json");
/// One pin in so many may be lost.
const LOST_IN: i64 = 1000;

/// A kernel with the arguments that decide about preemption.
struct Variant {
    name: &'static str,
    series: &'static str,
    flavour: Flavour,
    append: &'static str,
}

const fn stock(series: &'static str) -> Variant {
    Variant {
        name: series,
        series,
        flavour: Flavour::Cloud,
        append: "",
    }
}

const VARIANTS: [Variant; 8] = [
    stock("5.10"),
    stock("6.1"),
    Variant {
        name: "6.1-preempt",
        append: "preempt=full",
        ..stock("6.1")
    },
    stock("6.12"),
    Variant {
        name: "6.12-rt",
        flavour: Flavour::Rt,
        ..stock("6.12")
    },
    stock("6.18"),
    stock("7.2"),
    stock("7.3"),
];

/// As the guest knows them, and as the table names them.
const NEIGHBOURS: [(&str, &str); 6] = [
    ("none", "none"),
    ("updates", "map updates"),
    ("lookups", "map look-ups and batches"),
    ("bpftrace", "bpftrace"),
    ("perf", "perf record"),
    ("pinwatch", "a second pinwatch"),
];

pub fn main(args: &ReliabilityArgs) -> Result<ExitCode> {
    let cache = Cache::open()?;
    setup::ensure(&cache, Purpose::All)?;
    let [program, pinwatch] = build::bench_programs()?;
    let other_tools = OtherTools::fetch(&TOOLS, &cache, &args.mirrors)?;
    let bench = Bench {
        cache: &cache,
        mirrors: &args.mirrors,
        files: files(program, pinwatch, &other_tools),
        neighbours: asked(&NEIGHBOURS, &args.neighbours, |(name, _)| name),
        rounds: args.rounds,
    };
    let mut failures = Vec::new();
    for variant in asked(&VARIANTS, &args.kernels, |variant| variant.name) {
        match bench.run(variant) {
            Ok(measured) => {
                println!("\n{}", measured.table(variant));
                failures.extend(measured.failures(variant, &bench.neighbours));
                if args.rounds == ROUNDS {
                    measured.keep(variant, &other_tools.versions)?;
                }
            }
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => failures.push(format!("{}: {error:#}", variant.name)),
        }
    }
    for failure in &failures {
        println!("failed: {failure}");
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The rows with these names, or all if there are none.
fn asked<'a, T>(all: &'a [T], names: &[String], name: impl Fn(&T) -> &str) -> Vec<&'a T> {
    let wanted = |row: &&T| names.is_empty() || names.iter().any(|asked| asked == name(row));
    all.iter().filter(wanted).collect()
}

fn files(program: PathBuf, pinwatch: PathBuf, other_tools: &OtherTools) -> Vec<Placed> {
    let mut files = other_tools.placed();
    for (host, guest) in [(program, PROGRAM), (pinwatch, "/usr/bin/pinwatch")] {
        let guest = guest.to_owned();
        files.push(Placed { host, guest });
    }
    files
}

struct Bench<'a> {
    cache: &'a Cache,
    mirrors: &'a MirrorArgs,
    files: Vec<Placed>,
    neighbours: Vec<&'a (&'static str, &'static str)>,
    rounds: u32,
}

impl Bench<'_> {
    fn run(&self, variant: &Variant) -> Result<Measured> {
        let kernel = kernels::parse(variant.series)?;
        let release = kernel.fetch(variant.flavour, self.cache, self.mirrors)?;
        let rounds = self.rounds.to_string();
        let mut command = vec![PROGRAM, "reliability", "--rounds", &rounds];
        for (name, _) in &self.neighbours {
            command.extend(["--neighbour", name]);
        }
        let guest = Guest {
            kernel,
            own: None,
            flavour: variant.flavour,
            files: self.files.clone(),
            modules: Vec::new(),
            append: vec![variant.append.to_owned()],
            memory_mib: 2048,
            cpus: 2,
            forwards: Vec::new(),
            qemu_args: Vec::new(),
            timeout: Some(TIMEOUT),
            command: command.into_iter().map(str::to_owned).collect(),
        };
        let emulated = Accel::Tcg(Tcg::of_version(qemu::version()?));
        eprintln!("xtask: {}: some minutes for each neighbour", variant.name);
        let started = Instant::now();
        let run = |sinks| guest.run_by(emulated, self.cache, self.mirrors, sinks);
        let output = collect_out(run)?;
        let seconds = started.elapsed().as_secs();
        eprintln!("xtask: {} took {seconds} s", variant.name);
        Measured::read(release.release, &output)
    }
}

/// All neighbours on one kernel.
#[derive(Default)]
struct Measured {
    release: String,
    /// by neighbour: `{"hooks": ..., "rounds": [...]}`
    rows: Map<String, Value>,
    /// Neighbours that failed, and why.
    errors: Vec<(String, String)>,
}

impl Measured {
    /// From a guest's output.
    fn read(release: String, output: &str) -> Result<Self> {
        let mut measured = Self {
            release,
            ..Self::default()
        };
        for line in output.lines() {
            let value: Value = serde_json::from_str(line)
                .with_context(|| format!("the guest printed no JSON: {line}"))?;
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let neighbour = text(&value["neighbour"]).context("a line without neighbour")?;
            if let Some(error) = text(&value["error"]) {
                // Its rounds until then are no whole row.
                measured.rows.remove(&neighbour);
                measured.errors.push((neighbour, error));
                continue;
            }
            let round = &value["round"];
            let row = measured.rows.entry(neighbour);
            let row = row.or_insert_with(|| json!({ "hooks": round["hooks"], "rounds": [] }));
            let rounds = row["rounds"].as_array_mut().context("no rounds")?;
            rounds.push(round["counts"].clone());
        }
        Ok(measured)
    }

    /// From docs/reliability.json.
    fn stored(value: &Value) -> Option<Self> {
        Some(Self {
            release: value["release"].as_str()?.to_owned(),
            rows: value["neighbours"].as_object()?.clone(),
            errors: Vec::new(),
        })
    }

    fn row(&self, neighbour: &str) -> Option<Row> {
        self.rows.get(neighbour).map(Row::of)
    }

    fn table(&self, variant: &Variant) -> String {
        let mut text = format!("### {}: {}\n\n{HEAD}", variant.name, self.release);
        for (name, words) in NEIGHBOURS {
            if let Some(row) = self.row(name) {
                let _ = writeln!(text, "| {words} {}", row.line());
            }
        }
        text
    }

    /// Why the neighbours that were asked for fail.
    fn failures(&self, variant: &Variant, asked: &[&(&str, &str)]) -> Vec<String> {
        let mut failures = Vec::new();
        for (name, words) in asked {
            let errors = self
                .errors
                .iter()
                .filter(|(neighbour, _)| neighbour == name);
            let errors = errors.map(|(_, error)| error.clone());
            let row = self.row(name);
            let found = row.map_or_else(Vec::new, |row| row.failures());
            let said = errors.chain(found).collect::<Vec<_>>();
            if !said.is_empty() {
                let said = said.join(", ");
                failures.push(format!("{}, beside {words}: {said}", variant.name));
            }
        }
        failures
    }

    /// Replaces these rows in docs/reliability.json, and makes the tables anew.
    fn keep(self, variant: &Variant, versions: &str) -> Result<()> {
        let mut all: Map<String, Value> = match fs::read_to_string(JSON) {
            Ok(text) => serde_json::from_str(&text).context("docs/reliability.json")?,
            Err(_) => Map::new(),
        };
        self.merge_into(&mut all, variant);
        fs::write(JSON, stored_text(&all)).with_context(|| JSON.to_owned())?;
        document::write_in(DOCUMENT, "reliability", &tables(&all, versions))
    }

    /// Rows of other neighbours stay, unless they are of another point release.
    fn merge_into(mut self, all: &mut Map<String, Value>, variant: &Variant) {
        let old = all.get(variant.name).and_then(Self::stored);
        if let Some(old) = old.filter(|old| old.release == self.release) {
            for (name, row) in old.rows {
                self.rows.entry(name).or_insert(row);
            }
        }
        let kernel = json!({ "release": self.release, "neighbours": self.rows });
        all.insert(variant.name.to_owned(), kernel);
    }
}

/// JSON with a line per neighbour.
fn stored_text(all: &Map<String, Value>) -> String {
    let kernels = all.iter().map(|(name, kernel)| {
        let rows = kernel["neighbours"].as_object().into_iter().flatten();
        let rows: Vec<_> = rows
            .map(|(name, row)| format!("{}: {row}", json!(name)))
            .collect();
        let (name, rows) = (json!(name), rows.join(",\n"));
        let release = &kernel["release"];
        format!("{name}: {{\"release\": {release}, \"neighbours\": {{\n{rows}\n}}}}")
    });
    let kernels: Vec<_> = kernels.collect();
    format!("{{\n{}\n}}\n", kernels.join(",\n"))
}

fn tables(all: &Map<String, Value>, versions: &str) -> String {
    let mut text = String::new();
    for variant in &VARIANTS {
        if let Some(measured) = all.get(variant.name).and_then(Measured::stored) {
            let _ = writeln!(text, "{}", measured.table(variant));
        }
    }
    text + versions + ".\n"
}

const HEAD: &str = "\
| Neighbour | Hooks | Pins | Measured | Counted as lost | Unaccounted | Events matched | Invented | Strays | Events lost | Skipped runs | Longest pin | Longest call |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// The rounds beside one neighbour, added up.
#[derive(Debug, PartialEq)]
struct Row {
    hooks: String,
    made: i64,
    seen: i64,
    lost: i64,
    /// The sum of each round's distance from 0.
    unaccounted: i64,
    matched: i64,
    invented: i64,
    strays: i64,
    events_lost: i64,
    skipped: i64,
    longest_ns: i64,
    longest_call_ns: i64,
}

impl Row {
    fn of(stored: &Value) -> Self {
        let rounds = stored["rounds"].as_array().map_or(&[][..], |rounds| rounds);
        let all = |pointer: &'static str| {
            let values = rounds.iter().filter_map(|round| round.pointer(pointer));
            values.filter_map(Value::as_i64)
        };
        let sum = |pointer| all(pointer).sum();
        let longest = |pointer| all(pointer).max().unwrap_or_default();
        Self {
            hooks: stored["hooks"].as_str().unwrap_or_default().to_owned(),
            made: sum("/made"),
            seen: sum("/seen"),
            lost: sum("/lost"),
            unaccounted: all("/unaccounted").map(i64::abs).sum(),
            matched: sum("/events/matched"),
            invented: sum("/events/invented"),
            strays: sum("/events/strays"),
            events_lost: sum("/events/lost"),
            skipped: sum("/skipped"),
            longest_ns: longest("/events/longest_ns"),
            longest_call_ns: longest("/events/longest_call_ns"),
        }
    }

    fn line(&self) -> String {
        let mut text = format!("| {} |", self.hooks);
        let counts = [self.made, self.seen];
        for count in counts {
            let _ = write!(text, " {} |", thousands(count));
        }
        let _ = write!(text, " {} |", thousands(self.lost));
        let counts = [
            self.unaccounted,
            self.matched,
            self.invented,
            self.strays,
            self.events_lost,
            self.skipped,
        ];
        for count in counts {
            let _ = write!(text, " {} |", thousands(count));
        }
        for ns in [self.longest_ns, self.longest_call_ns] {
            let _ = write!(text, " {:.2} ms |", ns as f64 / 1e6);
        }
        text
    }

    fn failures(&self) -> Vec<String> {
        let too_many = self.lost * LOST_IN > self.made;
        let events = self.matched + self.invented + self.strays;
        let rules = [
            (
                self.unaccounted != 0,
                "unaccounted",
                self.unaccounted,
                self.made,
            ),
            (too_many, "lost", self.lost, self.made),
            (self.invented != 0, "invented", self.invented, events),
            (self.strays != 0, "strays", self.strays, events),
        ];
        let broken = rules.into_iter().filter(|(broken, ..)| *broken);
        let said = broken.map(|(_, what, count, all)| {
            let [count, all] = [count, all].map(thousands);
            format!("{what} {count} of {all}")
        });
        said.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(neighbour: &str, hooks: &str, unaccounted: i64, lost: i64, invented: i64) -> String {
        let seen = 1440 - unaccounted - lost;
        let events = json!({
            "matched": seen - invented, "invented": invented, "strays": 0, "lost": 0,
            "longest_ns": 2_000_000, "longest_call_ns": 2_500_000,
        });
        let counts = json!({
            "made": 1440, "seen": seen, "lost": lost, "unaccounted": unaccounted,
            "skipped": 7, "events": events,
        });
        let round = json!({ "hooks": hooks, "counts": counts });
        json!({ "neighbour": neighbour, "round": round }).to_string() + "\n"
    }

    fn measured(output: &str) -> Measured {
        Measured::read("1.2.3".to_owned(), output).unwrap()
    }

    #[test]
    fn rounds_are_added_up() {
        let output = line("updates", "fentry, fexit", 1, 2, 0)
            + &line("updates", "fentry, fexit", -1, 0, 3)
            + "{\"neighbour\":\"updates\",\"round\":{\"counts\":{\"made\":1440,\"seen\":1440,\
               \"lost\":0,\"unaccounted\":0,\"skipped\":0,\"events\":null}}}\n";
        let row = measured(&output).row("updates").unwrap();
        assert_eq!((row.made, row.seen, row.lost), (4320, 4318, 2));
        assert_eq!(row.unaccounted, 2, "they do not cancel each other out");
        assert_eq!((row.matched, row.invented, row.skipped), (2875, 3, 14));
        assert_eq!(
            (row.longest_ns, row.longest_call_ns),
            (2_000_000, 2_500_000)
        );
    }

    #[test]
    fn rows_that_fail_are_named() {
        let output = line("none", "kprobe", 0, 1, 0)
            + &line("updates", "kprobe", 500, 2, 3)
            + &line("perf", "kprobe", 0, 0, 0)
            + "{\"neighbour\":\"perf\",\"error\":\"no perf\"}\n";
        let measured = measured(&output);
        let asked: Vec<_> = NEIGHBOURS.iter().collect();
        assert_eq!(
            measured.failures(&VARIANTS[3], &asked),
            [
                "6.12, beside map updates: unaccounted 500 of 1,440, lost 2 of 1,440, \
                 invented 3 of 938",
                "6.12, beside perf record: no perf"
            ]
        );
        assert!(measured.row("perf").is_none());
    }

    #[test]
    fn rows_of_others_stay() {
        let variant = &VARIANTS[3];
        let mut all = Map::new();
        measured(&line("none", "kprobe", 0, 0, 0)).merge_into(&mut all, &VARIANTS[0]);
        measured(&line("none", "kprobe", 0, 0, 0)).merge_into(&mut all, variant);
        measured(&line("updates", "kprobe", 9, 0, 0)).merge_into(&mut all, variant);
        let text = stored_text(&all);
        assert_eq!(text.lines().count(), 2 + 2 * 2 + 3);
        let read: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, all);
        let tables = tables(&all, "perf 1");
        for row in ["### 5.10: 1.2.3", "| none |", "| map updates |"] {
            assert!(tables.contains(row), "{tables}");
        }

        let newer = Measured::read("1.2.4".to_owned(), &line("perf", "kprobe", 0, 0, 0));
        newer.unwrap().merge_into(&mut all, variant);
        let rows = Measured::stored(&all[variant.name]).unwrap().rows;
        assert_eq!(rows.keys().collect::<Vec<_>>(), ["perf"]);
    }
}
