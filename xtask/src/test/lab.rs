//! `cargo xtask test --lab`: the retry loop of 5.10 and version 4 of December 2020, each beside an obstacle of
//! known size. What pinwatch counts must be what the two algorithms do. [`builds`] has the other part.

mod builds;
mod checks;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use self::checks::Expected::{self, Pin, Pins, Sums};
use self::checks::{check_endless, sections};
use super::counts::Counter;
use super::steps::Steps;
use crate::bench::other_tools::{FIO, OtherTools};
use crate::build;
use crate::cache::Cache;
use crate::debian::apt::MirrorArgs;
use crate::debian::kernels::{Fetched, OWN};
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

/// Looks at CMA pages only, and retries isolation for ever.
const OLD: Lab = Lab {
    name: "lab-old",
    patches: &["pin-faults-5.10.patch"],
    append: kernel::PAGES_IN_CMA,
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
        // Each job registers its 32 buffers.
        Case {
            name: "fio",
            before: "",
            command: "fio --name=pins --ioengine=io_uring --fixedbufs --numjobs=4 --iodepth=32 --rw=read \
                      --bs=4k --size=1m --filename=/tmp/data",
            expected: Pins(128),
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

/// Parts of `cargo xtask test --lab`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    All,
    /// The loop of 5.10 and version 4 of December 2020
    Algorithms,
    /// 6.12 with ThinLTO, with PREEMPT_RT, without BTF, without kprobes, without fprobe, and for arm64 with pages of 64 KiB
    Builds,
}

/// Builds and boots the kernels of a part.
pub fn run(
    part: Part,
    cache: &Cache,
    mirrors: &MirrorArgs,
    counter: &Counter,
    steps: &Steps<'_>,
) -> Result<()> {
    if part != Part::Builds {
        algorithms(cache, mirrors, steps)?;
    }
    if part != Part::Algorithms {
        builds::run(cache, mirrors, counter, steps)?;
    }
    Ok(())
}

/// Checks both algorithms. Each case is a test of its own.
fn algorithms(cache: &Cache, mirrors: &MirrorArgs, steps: &Steps<'_>) -> Result<()> {
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
            let mut files = OtherTools::fetch(&FIO, cache, mirrors)?.placed();
            files.extend(programs.map(placed));
            lab.boot(built, files, cache, mirrors)
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
        Recipe::with_own_patches(self.name, SERIES, self.patches)
    }

    /// Whether isolation has no limit.
    fn is_endless(&self) -> bool {
        self.name == OLD.name
    }

    fn boot(
        &self,
        built: Fetched,
        files: Vec<Placed>,
        cache: &Cache,
        mirrors: &MirrorArgs,
    ) -> Result<String> {
        let guest = Guest {
            own: Some(built),
            files,
            append: vec![self.append.to_owned()],
            timeout: Some(TIMEOUT),
            ..Guest::new(
                &OWN,
                ["sh", "-c", &self.script()].map(str::to_owned).to_vec(),
            )
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
}
