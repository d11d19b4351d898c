//! What a guest of `bench reliability` measured: totals by neighbour, their table, and the rules that
//! they must obey.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::super::document::{self, thousands};
use super::variants::{NEIGHBOURS, VARIANTS, Variant};

const DOCUMENT: &str = "reliability.md";
const JSON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.json");
/// At most one pin in this many may be lost.
const LOST_IN: i64 = 1000;

/// The results of all neighbours on one kernel.
#[derive(Default)]
pub struct Measured {
    release: String,
    /// By neighbour: `{"hooks": ..., "rounds": [...]}`.
    rows: Map<String, Value>,
    /// Neighbours that failed, and why.
    errors: Vec<(String, String)>,
}

impl Measured {
    /// From a guest's output.
    pub fn read(release: String, output: &str) -> Result<Self> {
        let mut measured = Self {
            release,
            ..Self::default()
        };
        for line in output.lines() {
            let value: Value = serde_json::from_str(line)
                .with_context(|| format!("the guest printed a line that is not JSON: {line}"))?;
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let neighbour = text(&value["neighbour"]).context("a line without neighbour")?;
            if let Some(error) = text(&value["error"]) {
                // Its earlier rounds are not a complete row.
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

    fn row(&self, neighbour: &str) -> Option<Totals> {
        self.rows.get(neighbour).map(Totals::of)
    }

    pub fn table(&self, variant: &Variant) -> String {
        let mut text = format!("### {}: {}\n\n{HEAD}", variant.name, self.release);
        for (name, words) in NEIGHBOURS {
            if let Some(row) = self.row(name) {
                let _ = writeln!(text, "| {words} {}", row.line());
            }
        }
        text
    }

    /// Failures of the neighbours that were run, with their reasons.
    pub fn failures(&self, variant: &Variant, asked: &[&(&str, &str)]) -> Vec<String> {
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

    /// Replaces these rows in docs/reliability.json and writes the tables again.
    pub fn keep(self, variant: &Variant, versions: &str) -> Result<()> {
        let mut all: Map<String, Value> = match fs::read_to_string(JSON) {
            Ok(text) => serde_json::from_str(&text).context("docs/reliability.json")?,
            Err(_) => Map::new(),
        };
        self.merge_into(&mut all, variant);
        fs::write(JSON, stored_text(&all)).with_context(|| JSON.to_owned())?;
        document::write_in(DOCUMENT, "reliability", &tables(&all, versions))
    }

    /// Keeps the rows of other neighbours, unless they are from another point release.
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

/// JSON with one line per neighbour.
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

/// The sums over all rounds beside one neighbour.
#[derive(Debug, PartialEq)]
struct Totals {
    hooks: String,
    made: i64,
    seen: i64,
    lost: i64,
    /// Sum of the absolute values of all rounds.
    unaccounted: i64,
    matched: i64,
    invented: i64,
    strays: i64,
    events_lost: i64,
    skipped: i64,
    longest_ns: i64,
    longest_call_ns: i64,
}

impl Totals {
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
