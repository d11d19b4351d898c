//! `cargo xtask test --lab`: the retry loop of 5.10 and version 4 of December 2020, each beside an obstacle of
//! known size. What pinwatch counts must be what the two algorithms do.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::steps::Steps;
use crate::build;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{Fetched, Flavour, OWN};
use crate::guest::collected::collect_out;
use crate::guest::{Guest, Placed};
use crate::kernel::{self, Recipe};

const TIMEOUT: Duration = Duration::from_secs(600);
const PINWATCH: &str = "/usr/bin/pinwatch";
/// A test of the kernel's source: it pins through a file in debugfs.
const BENCHMARK: &str = "/usr/bin/gup_benchmark";
const SERIES: &str = "5.10";

/// One of the two kernels, and what runs on it.
struct Lab {
    name: &'static str,
    patches: &'static [&'static str],
    append: &'static str,
    cases: &'static [Case],
}

/// A pin beside an obstacle.
struct Case {
    name: &'static str,
    /// Commands before the load: knobs of pin-faults-5.10.patch.
    before: &'static str,
    /// The command that pins.
    command: &'static str,
    expected: Expected,
}

enum Expected {
    /// Fields of the only pin.
    Pin(fn() -> Value),
    /// The number of pins, their passes and their migrated pages.
    Sums([u64; 3]),
}

use Expected::{Pin, Sums};

/// Looks at CMA pages only, and retries isolation for ever. In 5.10 CMA serves user pages only while more than
/// half of the free memory is CMA.
const OLD: Lab = Lab {
    name: "lab-old",
    patches: &["pin-faults-5.10.patch"],
    append: "movablecore=0 cma=1100M",
    cases: &[
        Case {
            name: "4,096 touched pages",
            before: "",
            command: "pinwatch load touched --pages 4096",
            expected: Pin(
                || json!({"ok": true, "passes": 2, "migrate_calls": 1, "migrate_failed": 0}),
            ),
        },
        Case {
            name: "a held page",
            before: "",
            command: "pinwatch load held-one",
            expected: Pin(|| {
                json!({"errno": "ENOMEM", "cause": "migrate_busy", "passes": 1, "migrate_calls": 1,
                    "migrated": 255, "migrate_failed": 1})
            }),
        },
        Case {
            name: "migration fails once",
            before: "knob migrate 1",
            command: "pinwatch load touched",
            expected: Pin(|| {
                json!({"errno": "ENOMEM", "cause": "migrate_busy", "passes": 1, "migrate_calls": 1,
                    "migrated": 255, "migrate_failed": 1})
            }),
        },
        Case {
            name: "isolation fails 5 times",
            before: "knob isolate 5",
            command: "pinwatch load touched",
            expected: Pin(|| {
                json!({"ok": true, "passes": 3, "migrate_calls": 2, "migrated": 256,
                    "migrate_failed": 0, "isolate_failures": {"lru": 5}})
            }),
        },
    ],
};

/// Ends a pin at the 11th failed migration, or at the 101st failed isolation.
const V4: Lab = Lab {
    name: "lab-v4",
    patches: &["v4-5.10.patch", "pin-faults-5.10.patch"],
    append: "",
    cases: &[
        Case {
            name: "4,096 touched pages",
            before: "",
            command: "pinwatch load touched --pages 4096",
            expected: Pin(|| {
                json!({"ok": true, "passes": 2, "migrate_calls": 1, "migrated": 4096,
                    "migrate_failed": 0, "lru_drains": 1})
            }),
        },
        Case {
            name: "a held page",
            before: "",
            command: "pinwatch load held-one",
            expected: Pin(|| {
                json!({"errno": "EBUSY", "cause": "migrate_busy", "passes": 11, "migrate_calls": 11,
                    "migrated": 255, "migrate_failed": 11, "pages_repinned": 2560, "lru_drains": 11})
            }),
        },
        Case {
            name: "migration fails 3 times",
            before: "knob migrate 3",
            command: "pinwatch load touched",
            expected: Pin(|| {
                json!({"ok": true, "passes": 5, "migrate_calls": 4, "migrated": 256,
                    "migrate_failed": 3, "lru_drains": 4})
            }),
        },
        Case {
            name: "isolation fails 5 times",
            before: "knob isolate 5",
            command: "pinwatch load touched",
            expected: Pin(|| {
                json!({"ok": true, "passes": 3, "migrate_calls": 2, "migrated": 256,
                    "migrate_failed": 0, "isolate_failures": {"lru": 5}})
            }),
        },
        Case {
            name: "isolation always fails",
            before: "knob isolate 2000000000",
            command: "pinwatch load touched",
            expected: Pin(|| {
                json!({"errno": "EBUSY", "cause": "isolate", "passes": 101, "migrate_calls": 0,
                    "migrated": 0, "lru_drains": 101, "isolate_failures": {"lru": 25_856}})
            }),
        },
        // 64 MiB, 512 pages a call. All pages migrate in the first of five rounds.
        Case {
            name: "the kernel's gup_benchmark",
            before: "",
            command: "gup_benchmark -L -m 64 -n 512 -r 5",
            expected: Sums([160, 192, 16_384]),
        },
    ],
};

/// Old only: the pin spins in the kernel until the knob is off. Prints what is in flight meanwhile, then the
/// pin.
const ENDLESS: &str = "endless";

const FUNCTIONS: &str = r#"
set -e
knob() { # isolate|migrate TIMES
    echo 100 >/sys/kernel/debug/fail_pin_$1/probability
    echo $2 >/sys/kernel/debug/fail_pin_$1/times
}
pinned() { # COMMAND
    pinwatch record -o /tmp/recording -- "$@" >/dev/null 2>/tmp/said || true
    pinwatch tail --json --replay /tmp/recording
    knob isolate 0
    knob migrate 0
}
endless() {
    knob isolate 2000000000
    pinwatch tail --json --in-flight-after 1s >/tmp/lines &
    tail=$!
    until grep -q '"start"' /tmp/lines; do :; done
    pinwatch load touched >/dev/null &
    load=$!
    until grep -q '"in_flight"' /tmp/lines; do :; done
    knob isolate 0
    wait $load
    until grep -q '"pin"' /tmp/lines; do :; done
    kill -INT $tail
    wait $tail || true
    cat /tmp/lines
}
"#;

/// Runs everything. Each case is a test of its own.
pub fn run(cache: &Cache, mirrors: &MirrorArgs, steps: &Steps<'_>) -> Result<()> {
    let Some(pinwatch) = steps.run("building pinwatch", build::pinwatch)? else {
        return Ok(());
    };
    let scratch = cache.scratch()?;
    let benchmark = scratch.path().join("gup_benchmark");
    for lab in [&OLD, &V4] {
        let built = steps.run(&format!("building {}", lab.name), || {
            let built = kernel::build(&lab.recipe()?, cache, mirrors)?;
            kernel::selftest(SERIES, "vm/gup_benchmark.c", cache, &benchmark)?;
            Ok(built)
        })?;
        let Some(built) = built else { continue };
        let output = steps.run(&format!("pins on {}", lab.name), || {
            let programs = [(pinwatch.as_path(), PINWATCH), (&benchmark, BENCHMARK)];
            lab.boot(built, programs, cache, mirrors)
        })?;
        let Some(output) = output else { continue };
        let sections = sections(&output);
        let lines = |name| {
            let section = sections.get(name);
            section.with_context(|| format!("the guest printed nothing for {name}"))
        };
        for case in lab.cases {
            steps.check(&format!("{}: {}", lab.name, case.name), || {
                case.expected.check(lines(case.name)?)
            })?;
        }
        if lab.is_endless() {
            steps.check(&format!("{}: isolation always fails", lab.name), || {
                check_endless(lines(ENDLESS)?)
            })?;
        }
    }
    Ok(())
}

impl Lab {
    fn recipe(&self) -> Result<Recipe> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let patches = self.patches.iter().map(|patch| folder.join(patch));
        Ok(Recipe {
            name: self.name.to_owned(),
            source: kernel::parse_source(SERIES)?,
            patches: patches.collect(),
            fragments: Vec::new(),
            jobs: available_parallelism()?.get(),
        })
    }

    /// Whether isolation has no limit.
    fn is_endless(&self) -> bool {
        self.name == OLD.name
    }

    fn boot(
        &self,
        built: Fetched,
        programs: [(&Path, &str); 2],
        cache: &Cache,
        mirrors: &MirrorArgs,
    ) -> Result<String> {
        let guest = Guest {
            kernel: &OWN,
            own: Some(built),
            flavour: Flavour::Cloud,
            files: programs.map(placed).to_vec(),
            modules: Vec::new(),
            append: vec![self.append.to_owned()],
            memory_mib: 2048,
            cpus: 2,
            forwards: Vec::new(),
            qemu_args: Vec::new(),
            timeout: Some(TIMEOUT),
            command: ["sh", "-c", &self.script()].map(str::to_owned).to_vec(),
        };
        collect_out(|sinks| guest.run(cache, mirrors, sinks))
    }

    fn script(&self) -> String {
        let mut script = FUNCTIONS.to_owned();
        for Case {
            name,
            before,
            command,
            ..
        } in self.cases
        {
            script += &format!("echo \"== {name}\"\n{before}\npinned {command}\n");
        }
        if self.is_endless() {
            script += &format!("echo '== {ENDLESS}'\nendless\n");
        }
        script
    }
}

fn placed((host, guest): (&Path, &str)) -> Placed {
    Placed {
        host: host.to_owned(),
        guest: guest.to_owned(),
    }
}

/// The JSON lines of each section.
fn sections(output: &str) -> BTreeMap<&str, Vec<Value>> {
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
    fn check(&self, lines: &[Value]) -> Result<()> {
        match self {
            Pin(fields) => check_pin(lines, &fields()),
            Sums(sums) => check_sums(lines, *sums),
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
fn check_endless(lines: &[Value]) -> Result<()> {
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
    ensure!(
        // A pin is read while it counts.
        passes.abs_diff(unpinnable.div_ceil(256)) <= 1,
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
    fn every_patch_is_there() {
        for lab in [&OLD, &V4] {
            for patch in lab.recipe().unwrap().patches {
                assert!(patch.exists(), "{}", patch.display());
            }
        }
    }

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
    }
}
