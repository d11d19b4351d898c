//! What pinwatch printed, and whether it is what the kernel did.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use Expected::{Pin, Pins, Sums};

pub enum Expected {
    /// Fields of the only pin.
    Pin(fn() -> Value),
    /// The number of pins, their passes and their migrated pages.
    Sums([u64; 3]),
    /// The number of pins; all of them succeed.
    Pins(usize),
}

/// The JSON lines of each section.
pub fn sections(output: &str) -> BTreeMap<&str, Vec<Value>> {
    let mut sections: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut name = "";
    for line in output.lines() {
        if let Some(next) = line.strip_prefix("== ") {
            name = next;
            sections.entry(name).or_default();
        } else if let Ok(value) = serde_json::from_str(line) {
            sections.entry(name).or_default().push(value);
        }
    }
    sections
}

/// The pins among the lines that one call of `pinwatch load` caused.
fn pins(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["type"] == "pin").collect()
}

impl Expected {
    pub fn check(&self, lines: &[Value]) -> Result<()> {
        match self {
            Pin(fields) => check_pin(lines, &fields()),
            Sums(sums) => check_sums(lines, *sums),
            Pins(number) => check_pins(lines, *number),
        }
    }
}

fn check_sums(lines: &[Value], expected: [u64; 3]) -> Result<()> {
    let pins = pins(lines);
    let sum = |field: &str| {
        let values = pins.iter().filter_map(|pin| pin[field].as_u64());
        values.sum::<u64>()
    };
    let found = [pins.len() as u64, sum("passes"), sum("migrated")];
    ensure!(
        found == expected,
        "pins, passes and migrated pages are {found:?} instead of {expected:?}"
    );
    Ok(())
}

fn check_pins(lines: &[Value], expected: usize) -> Result<()> {
    let pins = pins(lines);
    let ok = pins.iter().filter(|pin| pin["ok"] == true).count();
    ensure!(
        [pins.len(), ok] == [expected; 2],
        "{} pins, of which {ok} succeeded, instead of {expected}",
        pins.len()
    );
    Ok(())
}

fn check_pin(lines: &[Value], expected: &Value) -> Result<()> {
    let [pin] = pins(lines)[..] else {
        bail!("{} pins instead of one", pins(lines).len());
    };
    check_fields(pin, expected)
}

/// Fields of `expected` that `found` does not have. More fields may be there.
fn differences(name: &str, expected: &Value, found: &Value, wrong: &mut Vec<String>) {
    match expected.as_object() {
        Some(fields) => {
            for (field, expected) in fields {
                differences(field, expected, &found[field], wrong);
            }
        }
        None if expected == found => {}
        None => wrong.push(format!("{name} is {found} instead of {expected}")),
    }
}

/// A pin that spins without a call of migrate_pages, until it can isolate.
pub fn check_endless(lines: &[Value]) -> Result<()> {
    let is_in_flight = |line: &&Value| line["type"] == "in_flight";
    let in_flight = lines.iter().find(is_in_flight);
    let in_flight = in_flight.context("the pin was never shown in flight")?;
    check_fields(in_flight, &json!({"migrate_calls": 0, "migrated": 0}))?;
    let failures = in_flight["isolate_failures"].as_u64().unwrap_or_default();
    ensure!(
        failures > 25_600,
        "only {failures} isolations failed: the pin does not spin"
    );
    // The kernel scans the 256 pages again without pinning again. Each scan is a pass.
    let number = |line: &Value, name: &str| line[name].as_u64().unwrap_or_default();
    let (passes, unpinnable) = (number(in_flight, "passes"), number(in_flight, "unpinnable"));
    // A pin is read while it counts, and the reader can lose its processor between the two.
    let expected = unpinnable.div_ceil(256);
    ensure!(
        passes.abs_diff(expected) <= 1 + passes / 10,
        "{passes} passes found {unpinnable} unpinnable pages: not 256 in each"
    );
    let activity = in_flight["signature"].as_str().unwrap_or_default();
    let expected = format!("looping on isolation: {passes} passes, ");
    ensure!(
        activity.starts_with(&expected) && activity.ends_with(", no migrate call"),
        "it is shown as \"{activity}\""
    );
    let [pin] = pins(lines)[..] else {
        bail!("{} pins instead of one", pins(lines).len());
    };
    // The knob goes off in the middle of a scan: the pages behind it migrate at once, the others after the next scan.
    let calls = number(pin, "migrate_calls");
    ensure!(
        (1..=2).contains(&calls),
        "migrate_calls is {calls} instead of 1 or 2"
    );
    check_fields(
        pin,
        &json!({"ok": true, "migrated": 256, "migrate_failed": 0, "pages_repinned": 256 * calls}),
    )
}

fn check_fields(line: &Value, expected: &Value) -> Result<()> {
    let mut wrong = Vec::new();
    differences("", expected, line, &mut wrong);
    ensure!(wrong.is_empty(), "{}", wrong.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_counts_fail() {
        let output = "== a\n{\"type\":\"start\"}\n{\"type\":\"pin\",\"passes\":11,\"isolate_failures\":{\"lru\":2,\"hugetlb\":0}}\n== b\n";
        let sections = sections(output);
        let check = |expected| check_pin(&sections["a"], &expected);
        check(json!({"passes": 11, "isolate_failures": {"lru": 2}})).unwrap();
        let error = check(json!({"passes": 12})).unwrap_err().to_string();
        assert_eq!(error, "passes is 11 instead of 12");
        assert!(check(json!({"isolate_failures": {"lru": 3}})).is_err());
        assert!(check_pin(&sections["b"], &json!({})).is_err());
        check_sums(&sections["a"], [1, 11, 0]).unwrap();
        assert!(check_sums(&sections["a"], [1, 12, 0]).is_err());
        let pins = "== c\n{\"type\":\"pin\",\"ok\":true}\n{\"type\":\"pin\",\"ok\":false}\n";
        let pins = &super::sections(pins)["c"];
        check_pins(&pins[..1], 1).unwrap();
        assert!(check_pins(pins, 2).is_err());
        assert!(check_pins(pins, 1).is_err());
    }
}
