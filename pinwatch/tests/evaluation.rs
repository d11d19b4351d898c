//! Runs `pinwatch report`, `replay` and `compare` on synthetic recordings.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bytemuck::Zeroable as _;
use pinwatch::host::machine::{FollPins, Machine};
use pinwatch::model::agent_status::AgentStatus;
use pinwatch::model::session::Start;
use pinwatch::model::state::State;
use pinwatch::model::trace::{Pass, Traced};
use pinwatch::model::view::{HookLine, HookStatus};
use pinwatch::probe::table::Measurement;
use pinwatch::recording::{End, Header, Writer};
use pinwatch_common::abi::ABI_VERSION;
use pinwatch_common::record::{Pin, PinEvent};

/// A temporary folder, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pinwatch-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A random number generator with a fixed seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1.
    fn share(&mut self) -> f64 {
        self.next() as f64 / u64::MAX as f64
    }
}

/// Behaviour of a synthetic kernel, and the machine that it runs on.
#[derive(Clone, Copy)]
struct Kernel {
    ns_per_page: f64,
    /// Share of pins of held memory that fail, from 0 to 1.
    fails: f64,
    /// Whether pins migrate their pages out of ZONE_MOVABLE.
    moves: bool,
    memory_kib: u64,
    /// Duration of the calibration work, if the recording has it.
    yardstick_ns: Option<u64>,
}

const OLD: Kernel = Kernel {
    ns_per_page: 100.0,
    fails: 0.0,
    moves: false,
    memory_kib: 2_000_000,
    yardstick_ns: None,
};

/// Index of the zone.
const MOVABLE: u8 = 3;

fn header(kernel: Kernel) -> Header {
    let mut rest = Box::<AgentStatus>::default();
    for (zone, name) in ["dma", "dma32", "normal", "movable"].iter().enumerate() {
        rest.zones[zone] = Some((*name).to_owned());
    }
    let start = Start {
        version: "0.1.0".to_owned(),
        abi: ABI_VERSION,
        release: "6.12.0-<b>test</b>".to_owned(),
        era: "folios".to_owned(),
        wall_offset_ns: 0,
        status: rest,
    };
    let machine = Machine {
        cpu: "a \u{202e}processor".to_owned(),
        cpus: 2,
        memory_kib: kernel.memory_kib,
        nodes: 1,
        ..Machine::default()
    };
    Header {
        yardstick_ns: kernel.yardstick_ns,
        ..Header::new(start, None, machine)
    }
}

/// The `n`th pin. Every fourth is of held memory.
fn pin(kernel: Kernel, n: u64, dice: &mut Dice) -> Traced {
    let held = n % 4 == 3;
    let fails = held && dice.share() < kernel.fails;
    // Durations have a long tail.
    let slow = 1.0 / (0.05 + dice.share());
    let pages = 256.0;
    let ns = (pages * kernel.ns_per_page * (0.9 + 0.05 * slow)) as u64;
    let pass = |passes, unpinnable, gup, migrate| Pass {
        passes,
        unpinnable,
        moved: unpinnable,
        migrate_calls: u32::from(migrate > 0),
        repinned: unpinnable,
        phase_ns: [gup, 0, 0, migrate, 0],
        ..Pass::default()
    };
    let passes = if kernel.moves && !fails {
        vec![
            pass(1, 256, ns / 4, ns / 2),
            pass(1, 0, ns - ns / 4 - ns / 2, 0),
        ]
    } else {
        Vec::new()
    };
    let sum = |of: fn(&Pass) -> u64| passes.iter().map(of).sum::<u64>();
    let pin = Pin {
        start_ns: 1_000_000_000 + n * 1_000_000,
        duration_ns: ns,
        tgid: 100,
        tid: 100,
        requested: 256,
        returned: if fails { -12 } else { 256 },
        migrate_ret: i32::from(fails),
        failed: u64::from(fails),
        unpinnable: sum(|pass| pass.unpinnable),
        moved: sum(|pass| pass.moved),
        repinned: sum(|pass| pass.repinned),
        migrate_calls: u32::from(kernel.moves),
        passes: passes.len().max(1) as u32,
        phase_ns: [
            ns - sum(|pass| pass.phase_ns[3]),
            0,
            0,
            sum(|pass| pass.phase_ns[3]),
            0,
        ],
        gup_flags: 1,
        origin: 1,
        sampled_zone: if fails {
            0
        } else {
            1 + if kernel.moves { 2 } else { MOVABLE }
        },
        ended: 1,
        ..Pin::zeroed()
    };
    let comm = if held {
        *b"held-one\0\0\0\0\0\0\0\0"
    } else {
        *b"<i>touched</i>\0\0"
    };
    let event = PinEvent { pin, comm };
    Traced { event, passes }
}

/// Writes a recording of `pins` pins.
fn record(path: &Path, kernel: Kernel, pins: u64, seed: u64) {
    let file = BufWriter::new(File::create(path).expect("a file"));
    let mut writer = Writer::new(file, &header(kernel), false).expect("a header");
    let mut dice = Dice(seed);
    let mut batch = Vec::new();
    for n in 0..pins {
        batch.push(pin(kernel, n, &mut dice));
        if batch.len() == 1000 {
            writer.pins(&batch).expect("written");
            batch.clear();
        }
    }
    writer.pins(&batch).expect("written");
    let end = End {
        yardstick_ns: kernel.yardstick_ns,
        ..End::default()
    };
    writer.end(&end).expect("written");
}

fn pinwatch(args: &[&str], files: &[&Path]) -> Output {
    let mut pinwatch = Command::new(env!("CARGO_BIN_EXE_pinwatch"));
    pinwatch.args(args).args(files).output().expect("it runs")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn compare_finds_differences_in_failures_durations_and_zones() {
    let folder = Folder::new("differ");
    let (base, new, page) = (
        folder.file("base"),
        folder.file("new"),
        folder.file("page.html"),
    );
    record(&base, OLD, 4000, 1);
    let moving = Kernel {
        ns_per_page: 300.0,
        fails: 1.0,
        moves: true,
        ..OLD
    };
    record(&new, moving, 4000, 2);
    let html = format!("--html={}", page.display());
    let output = pinwatch(&["compare", &html], &[&base, &new]);
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.starts_with("worse: "), "{shown}");
    for line in [
        "failed pins",
        "0.0 % -> 100.0 %",
        "100.0 % -> 0.0 %",
        "duration, median",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    let better = shown.split("Better").nth(1).expect("some are");
    assert!(better.contains("pages left in ZONE_MOVABLE"), "{shown}");
    let page = fs::read_to_string(page).expect("a page");
    assert!(
        page.contains("&lt;i&gt;touched")
            && !page.contains("<i>touched")
            && !page.contains("<b>test")
    );
    assert!(
        !page.contains('\u{202e}'),
        "the page must not contain characters that change the direction of text"
    );
    let output = pinwatch(&["compare", "--json"], &[&new, &base]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["worse"], true, "more pages stay in ZONE_MOVABLE");
}

#[test]
fn compare_finds_no_difference_between_runs_of_one_kernel() {
    let folder = Folder::new("same");
    let kernel = Kernel {
        fails: 0.3,
        moves: true,
        ..OLD
    };
    let (base, new) = (folder.file("base"), folder.file("new"));
    let mut alarms = Vec::new();
    for seed in 0..20 {
        record(&base, kernel, 1000, 100 + seed);
        record(&new, kernel, 1000, 200 + seed);
        let output = pinwatch(&["compare"], &[&base, &new]);
        if !text(&output).starts_with("no difference") {
            alarms.push(text(&output));
        }
    }
    assert!(alarms.len() <= 2, "{alarms:#?}");
}

#[test]
fn a_slower_machine_is_not_reported_as_a_slower_kernel() {
    let folder = Folder::new("unsteady");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let slower = |times: f64, yardstick: Option<u64>| Kernel {
        ns_per_page: times * OLD.ns_per_page,
        yardstick_ns: yardstick,
        ..OLD
    };
    let compared = |args: &[&str], machines: [Option<u64>; 2]| {
        record(&base, slower(1.0, machines[0]), 4000, 1);
        record(&new, slower(1.5, machines[1]), 4000, 2);
        let output = pinwatch(&[&["compare"], args].concat(), &[&base, &new]);
        (output.status.code(), text(&output))
    };
    let note = "the machine was x1.50 slower";
    for steady in [[None; 2], [Some(30_000_000); 2]] {
        let (status, shown) = compared(&[], steady);
        assert_eq!(status, Some(1), "{shown}");
        assert!(!shown.contains("note: "), "{shown}");
    }
    let (status, shown) = compared(&[], [Some(30_000_000), Some(45_000_000)]);
    assert_eq!(status, Some(0), "{shown}");
    assert!(
        shown.starts_with("no difference") && shown.contains(note),
        "{shown}"
    );
    // The user says that runs of one kernel differ this much.
    let (status, shown) = compared(&["--run-spread=50"], [None; 2]);
    assert_eq!(status, Some(0), "{shown}");
}

#[test]
fn recordings_of_different_machines_need_allow() {
    let folder = Folder::new("alike");
    let (base, new) = (folder.file("base"), folder.file("new"));
    record(&base, OLD, 100, 1);
    let larger = Kernel {
        memory_kib: 3_000_000,
        ..OLD
    };
    record(&new, larger, 100, 2);
    let output = pinwatch(&["compare"], &[&base, &new]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("memory") && error.contains("1953 MiB") && error.contains("--allow memory"),
        "{error}"
    );
    let output = pinwatch(&["compare", "--allow=memory"], &[&base, &new]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("allowed: memory differs"));
    let output = pinwatch(&["compare"], &[&base, Path::new("/nonexistent")]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "a missing file is an error, not a verdict"
    );
}

#[test]
fn replay_of_many_pins_needs_less_than_64_mb() {
    let folder = Folder::new("many");
    let file = folder.file("pins");
    record(&file, OLD, 300_000, 7);
    for (output, wanted) in [
        ("metrics", "pinwatch_pins_total{origin=\"io_uring\"} 300000"),
        ("report", "300000 pins, 0 failed"),
    ] {
        // The limit is on address space, which is larger than resident memory.
        let limited = format!("ulimit -v {}; exec \"$0\" \"$@\"", 64_000_000 / 1024);
        let replay = Command::new("sh")
            .args([
                "-c",
                &limited,
                env!("CARGO_BIN_EXE_pinwatch"),
                "replay",
                "--as",
                output,
            ])
            .arg(&file)
            .output()
            .expect("sh");
        assert!(text(&replay).contains(wanted), "{replay:?}");
    }
}

#[test]
fn report_judges_claims_and_applies_what_if_rules() {
    let folder = Folder::new("claims");
    let file = folder.file("pins");
    let kernel = Kernel {
        fails: 0.5,
        moves: true,
        ..OLD
    };
    record(&file, kernel, 4000, 3);
    let rules = [
        "--what-if=migrate-max=10,isolate-max=100",
        "--what-if=forward-progress",
    ];
    let output = pinwatch(&["report", "--json", rules[0], rules[1]], &[&file]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let verdicts: Vec<_> = json["claims"]
        .as_array()
        .expect("claims")
        .iter()
        .map(|claim| {
            format!(
                "{} {}",
                claim["id"].as_str().unwrap_or_default(),
                claim["verdict"].as_str().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            "C1 refuted",
            "C2 refuted",
            "C3 not_enough_data",
            "C4 not_enough_data",
            "C5 refuted",
            "C6 supported",
            "C7 refuted",
            "C8 not_enough_data",
            "C9 not_measured",
            "C10 not_enough_data",
        ]
    );
    assert_eq!(json["what_if"]["outcomes"][0]["would_fail"], 0);
    assert_eq!(
        pinwatch(&["report", "--what-if=never"], &[&file])
            .status
            .code(),
        Some(2)
    );
}

/// A pin of 256 pages that succeeds in one pass.
fn plain() -> Pin {
    Pin {
        duration_ns: 10_000,
        tgid: 100,
        tid: 100,
        requested: 256,
        returned: 256,
        passes: 1,
        phase_ns: [5000, 5000, 0, 0, 0],
        gup_flags: 0x101,
        origin: 1,
        ended: 1,
        ..Pin::zeroed()
    }
}

/// A pin that fails in migration.
fn busy() -> Pin {
    Pin {
        returned: -12,
        migrate_ret: 1,
        migrate_calls: 1,
        ..plain()
    }
}

fn named(comm: &str, pin: Pin) -> Traced {
    let mut event = PinEvent { pin, comm: [0; 16] };
    event.comm[..comm.len()].copy_from_slice(comm.as_bytes());
    let passes = Vec::new();
    Traced { event, passes }
}

fn load(pin: Pin) -> Traced {
    named("load", pin)
}

/// A pass that fails `failures` times to isolate a page, or a sum of so many passes.
fn isolating(failures: u32) -> Pass {
    Pass {
        passes: failures.max(1),
        unpinnable: u64::from(failures),
        isolate_failures: [failures, 0, 0],
        repinned: 256 * u64::from(failures),
        phase_ns: [5000, 5000, 0, 0, 0],
        ..Pass::default()
    }
}

/// A pin with these passes.
fn passing(returned: i64, passes: Vec<Pass>) -> Traced {
    let sum = |of: fn(&Pass) -> u64| passes.iter().map(of).sum::<u64>();
    let pin = Pin {
        returned,
        passes: sum(|pass| u64::from(pass.passes)) as u32,
        unpinnable: sum(|pass| pass.unpinnable),
        moved: sum(|pass| pass.moved),
        migrate_calls: sum(|pass| u64::from(pass.migrate_calls)) as u32,
        repinned: sum(|pass| pass.repinned),
        isolate_failures: [sum(|pass| u64::from(pass.isolate_failures[0])) as u32, 0, 0],
        duration_ns: sum(|pass| pass.phase_ns.iter().sum()),
        ..plain()
    };
    let passes = if passes.len() > 1 { passes } else { Vec::new() };
    Traced {
        passes,
        ..load(pin)
    }
}

/// Writes a recording of these pins. `change` changes its first and its last frame.
fn write(path: &Path, pins: &[Traced], change: impl FnOnce(&mut Header, &mut End)) {
    let mut header = header(OLD);
    let mut end = End::default();
    for status in [&mut *header.start.status, &mut end.status] {
        status.stuck_after_ns = 10_000_000_000;
    }
    change(&mut header, &mut end);
    let file = BufWriter::new(File::create(path).expect("a file"));
    let mut writer = Writer::new(file, &header, false).expect("a header");
    let mut pins = pins.to_vec();
    for (n, traced) in pins.iter_mut().enumerate() {
        traced.event.pin.start_ns = 1_000_000_000 + n as u64 * 1_000_000;
    }
    writer.pins(&pins).expect("written");
    writer.end(&end).expect("written");
}

fn unchanged(_: &mut Header, _: &mut End) {}

/// Puts pins in flight into the last frame, at `now_ns`.
fn in_flight(end: &mut End, now_ns: u64, pins: Vec<Pin>) {
    let state = State {
        in_flight: pins,
        now_ns,
        stuck_after_ns: end.status.stuck_after_ns,
        ..State::empty("6.12", "folios")
    };
    end.status = AgentStatus::of(&state);
}

/// A pin that has looped on isolation since the start.
fn looping() -> Pin {
    Pin {
        start_ns: 5,
        tid: 77,
        tgid: 77,
        passes: 4_000_000,
        unpinnable: 4_000_000,
        isolate_failures: [4_000_000, 0, 0],
        duration_ns: 0,
        returned: 0,
        ended: 0,
        ..plain()
    }
}

/// Exit status and text of a comparison with all of its figures.
fn compared(base: &Path, new: &Path) -> (Option<i32>, String) {
    let output = pinwatch(&["compare", "--all"], &[base, new]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text(&output) + &error)
}

/// Verdict on a claim.
fn verdict(file: &Path, id: &str) -> String {
    let output = pinwatch(&["report", "--json"], &[file]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut claims = json["claims"].as_array().expect("claims").iter();
    let claim = claims.find(|claim| claim["id"] == id).expect("the claim");
    let needs = claim["needs"].as_str().unwrap_or_default();
    format!("{} {needs}", claim["verdict"].as_str().unwrap_or_default())
}

#[test]
fn pins_that_fail_in_turn_are_no_difference() {
    let folder = Folder::new("in-turn");
    let (base, new) = (folder.file("base"), folder.file("new"));
    // A sample of every 4th of 40,000 pins would show the pins of one kind alone.
    for (period, share) in [(2, "50.0 % -> 50.0 %"), (4, "25.0 % -> 25.0 %")] {
        let side = |phase: usize| -> Vec<_> {
            let pins = (0..40_000).map(|n| if n % period == phase { busy() } else { plain() });
            pins.map(load).collect()
        };
        write(&base, &side(1), unchanged);
        write(&new, &side(0), unchanged);
        let (status, shown) = compared(&base, &new);
        assert_eq!(status, Some(0), "{shown}");
        assert!(
            shown.starts_with("no difference") && shown.contains(share),
            "{shown}"
        );
    }
}

#[test]
fn a_burst_in_a_single_run_is_no_difference_and_many_failures_are() {
    let folder = Folder::new("burst");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let side = |fails: &dyn Fn(usize) -> bool| -> Vec<_> {
        let pins = (0..10_000).map(|n| if fails(n) { busy() } else { plain() });
        pins.map(load).collect()
    };
    let bursts: [&dyn Fn(usize) -> bool; 3] =
        [&|n| (4000..5500).contains(&n), &|n| n < 700, &|n| {
            (4000..7000).contains(&n)
        }];
    for burst in bursts {
        for [in_base, in_new] in [[&|_| false, burst], [burst, &|_| false]] {
            write(&base, &side(in_base), unchanged);
            write(&new, &side(in_new), unchanged);
            let (status, shown) = compared(&base, &new);
            assert_eq!(status, Some(0), "{shown}");
            assert!(shown.starts_with("no difference"), "{shown}");
        }
    }
    // A burst of slow pins moves the p99 of the run.
    let slow = |n: usize| Pin {
        duration_ns: if (4000..5500).contains(&n) {
            30_000
        } else {
            10_000 + n as u64 % 100
        },
        ..plain()
    };
    let pins: Vec<_> = (0..10_000).map(|n| load(slow(n))).collect();
    write(&base, &side(&|_| false), unchanged);
    write(&new, &pins, unchanged);
    let (status, shown) = compared(&base, &new);
    assert_eq!(status, Some(0), "{shown}");
    let worse: [&dyn Fn(usize) -> bool; 2] = [&|n| n % 7 == 0, &|n| !(4000..5500).contains(&n)];
    for fails in worse {
        write(&new, &side(fails), unchanged);
        let (status, shown) = compared(&base, &new);
        assert_eq!(status, Some(1), "{shown}");
    }
}

#[test]
fn nothing_to_compare_is_an_error() {
    let folder = Folder::new("nothing");
    let (full, empty, other) = (
        folder.file("full"),
        folder.file("empty"),
        folder.file("other"),
    );
    let pins = |comm: &str| vec![named(comm, plain()); 100];
    write(&full, &pins("load"), unchanged);
    write(&empty, &[], unchanged);
    write(&other, &pins("another"), unchanged);
    let cut = folder.file("cut");
    let whole = fs::read(&empty).expect("it is written");
    fs::write(&cut, &whole[..whole.len() - 10]).expect("written");
    for (base, new, wanted) in [
        (&full, &empty, "new has a recording without pins"),
        (&empty, &full, "base has a recording without pins"),
        (&full, &cut, "the recording was cut short"),
        (&full, &other, "no group of pins in common"),
    ] {
        let (status, shown) = compared(base, new);
        assert_eq!(status, Some(2), "{shown}");
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
}

#[test]
fn pins_that_do_not_return_make_a_kernel_worse() {
    let folder = Folder::new("hang");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let pins = vec![load(plain()); 60];
    write(&base, &pins, unchanged);
    let now_ns = 3_900_000_000_000;
    // Beside 60 pins that end, and alone.
    for pins in [&pins[..], &[]] {
        write(&new, pins, |_, end| {
            in_flight(end, now_ns, vec![looping(); 4]);
        });
        let (status, shown) = compared(&base, &new);
        assert_eq!(status, Some(1), "{shown}");
        assert!(
            shown.contains("pins that do not return     0.00 -> 4.00")
                && shown.contains("in flight for 1h04m: looping on isolation: 4000000 passes"),
            "{shown}"
        );
    }
    assert_eq!(compared(&new, &base).0, Some(0));
    assert_eq!(compared(&new, &new).0, Some(0));
    // A signal ended it after 20 s.
    let killed = Pin {
        duration_ns: 20_000_000_000,
        returned: -4,
        ..looping()
    };
    write(&new, &[&pins[..], &[load(killed)]].concat(), unchanged);
    assert_eq!(compared(&base, &new).0, Some(1));
    // Pins of the base last longer, or the pin is young.
    let slow = Pin {
        duration_ns: 30_000_000_000,
        ..plain()
    };
    for (slow, age_ns) in [(slow, 25_000_000_000), (plain(), 9_000_000_000)] {
        write(&base, &[&pins[..], &[load(slow)]].concat(), unchanged);
        write(&new, &pins, |_, end| {
            in_flight(end, age_ns, vec![looping()]);
        });
        let (status, shown) = compared(&base, &new);
        assert_eq!(status, Some(0), "{shown}");
    }
    // What a cut recording had in flight is unknown.
    let whole = fs::read(&new).expect("it is written");
    fs::write(&new, &whole[..whole.len() - 10]).expect("written");
    let (status, shown) = compared(&base, &new);
    assert_eq!(status, Some(0), "{shown}");
    assert!(
        shown.contains("pins that do not return: a recording of new was cut short"),
        "{shown}"
    );
}

#[test]
fn figures_without_a_measurement_are_not_compared() {
    let folder = Folder::new("lacking");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let pins = |passes| vec![load(Pin { passes, ..plain() }); 2000];
    // The plan says nothing; the pins have no passes.
    write(&base, &pins(0), unchanged);
    write(&new, &pins(1), unchanged);
    let unsaid = "passes, load, io_uring, 129 to 256 pages: no pin in base has a value";
    let (status, shown) = compared(&base, &new);
    assert_eq!(status, Some(0), "{shown}");
    assert!(shown.contains(unsaid), "{shown}");
    let (status, shown) = compared(&new, &base);
    assert_eq!(status, Some(0), "{shown}");
    assert!(shown.contains(&unsaid.replace("base", "new")), "{shown}");
    // The plan says so, at the beginning or at the end.
    let line = |measurement, verdict| HookLine {
        measurement,
        verdict,
        hook: None,
        note: None,
    };
    let more = Pin {
        migrate_calls: 1,
        drains: 3,
        ..plain()
    };
    write(&base, &vec![load(more); 2000], |_, _| {});
    write(&new, &vec![load(more); 2000], |header, end| {
        let plan = &mut header.start.status.plan;
        plan.push(line(Measurement::Migrations, HookStatus::Off));
        let plan = &mut end.status.plan;
        plan.push(line(Measurement::Drains, HookStatus::Silent));
        plan.push(line(Measurement::Zones, HookStatus::NotApplicable));
    });
    let (_, shown) = compared(&base, &new);
    for wanted in [
        "migrate calls: migrations was not measured in new",
        "LRU drains: drains was not measured in new",
    ] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    assert!(
        !shown.contains("migrate calls   ") && !shown.contains("zones was"),
        "{shown}"
    );
    let output = pinwatch(&["compare", "--json"], &[&base, &new]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let left_out = json["not_compared"].as_array().expect("an array");
    assert!(
        left_out
            .iter()
            .any(|left_out| left_out["figure"] == "LRU drains" && left_out["group"].is_null()),
        "{json}"
    );
}

#[test]
fn each_pass_counts_for_transient_isolation_failures() {
    let folder = Folder::new("each-pass");
    let file = folder.file("pins");
    let transient = vec![passing(256, vec![isolating(1), isolating(0)]); 60];
    write(&file, &transient, unchanged);
    assert_eq!(verdict(&file, "C3"), "supported ");
    // 16 passes alone, and a sum of 4 million; and the same in flight.
    let mut passes = vec![isolating(1); 16];
    passes.push(isolating(4_000_000));
    let endless = passing(-4, passes);
    write(&file, &[&transient[..], &[endless]].concat(), unchanged);
    assert_eq!(verdict(&file, "C3"), "refuted ");
    write(&file, &transient, |_, end| {
        in_flight(end, 3_900_000_000_000, vec![looping()]);
    });
    assert_eq!(verdict(&file, "C3"), "refuted ");
    // A sum whose last pass succeeds.
    let sum = Pass {
        passes: 3,
        ..isolating(1)
    };
    write(
        &file,
        &vec![passing(256, vec![isolating(1), sum]); 60],
        unchanged,
    );
    let output = pinwatch(&["report"], &[&file]);
    assert!(
        text(&output).contains("without another: 60 of 120"),
        "{}",
        text(&output)
    );
}

#[test]
fn claims_need_enough_data_of_their_kind() {
    let folder = Folder::new("enough");
    let file = folder.file("pins");
    // One retry of 512 pages is one trial.
    let retry = Pass {
        passes: 1,
        unpinnable: 512,
        moved: 512,
        migrate_calls: 1,
        repinned: 512,
        phase_ns: [3000, 1000, 0, 2000, 0],
        ..Pass::default()
    };
    let mut migrating = passing(512, vec![retry, isolating(0)]);
    migrating.event.pin.requested = 512;
    write(&file, std::slice::from_ref(&migrating), unchanged);
    assert!(verdict(&file, "C6").starts_with("not_enough_data about 127 more passes"));
    write(&file, &vec![migrating; 200], unchanged);
    assert_eq!(verdict(&file, "C6"), "supported ");
    // One failed pin says nothing about its group.
    write(&file, &[load(busy())], unchanged);
    assert!(verdict(&file, "C7").starts_with("not_enough_data about 127 more pins"));
    write(&file, &vec![load(busy()); 200], unchanged);
    assert_eq!(verdict(&file, "C7"), "supported ");
    let mixed = [vec![load(busy()); 200], vec![load(plain()); 3]].concat();
    write(&file, &mixed, unchanged);
    assert_eq!(verdict(&file, "C7"), "refuted ");
    // 40 kinds of pins, each of which always fails or never; the last 8 are in one group.
    let kinds = (0..40u8).flat_map(|kind| {
        let comm = String::from_utf8(vec![b't', b'a' + kind % 26, b'a' + kind / 26]);
        let pin = if kind % 2 == 1 { busy() } else { plain() };
        vec![named(&comm.expect("letters"), pin); 5]
    });
    write(&file, &kinds.collect::<Vec<_>>(), unchanged);
    assert_eq!(verdict(&file, "C7"), "supported ");
}

#[test]
fn pins_without_flags_do_not_count_as_without_foll_write() {
    let folder = Folder::new("flags");
    let file = folder.file("pins");
    let side = |flags: u32| -> Vec<_> {
        let failing = (0..200).map(|n| {
            let returned = if n % 2 == 0 { 256 } else { -12 };
            let origin = 6;
            let gup_flags = flags;
            named(
                "qemu",
                Pin {
                    returned,
                    origin,
                    gup_flags,
                    ..plain()
                },
            )
        });
        failing.chain(vec![load(plain()); 200]).collect()
    };
    // FOLL_LONGTERM without FOLL_WRITE.
    write(&file, &side(0x100), unchanged);
    assert_eq!(verdict(&file, "C8"), "supported ");
    write(&file, &side(0), unchanged);
    assert_eq!(
        verdict(&file, "C8"),
        "not_enough_data about 128 more pins without FOLL_WRITE"
    );
}

#[test]
fn leaks_cannot_be_told_when_fewer_pages_are_pinned_at_the_end() {
    let folder = Folder::new("leaks");
    let file = folder.file("pins");
    for (released, wanted) in [
        (768, "supported "),
        (
            1_000_200,
            "not_enough_data a recording during which nobody unpins pages that were pinned before it",
        ),
        (
            668,
            "not_enough_data an end of the recording at which nobody holds pins that succeeded",
        ),
    ] {
        write(&file, &vec![load(busy()); 3], |header, end| {
            let pins = |acquired, released| FollPins { acquired, released };
            header.machine.foll_pins = Some(pins(2_000_000, 0));
            end.foll_pins = Some(pins(2_000_768, released));
        });
        assert_eq!(verdict(&file, "C9"), wanted);
    }
}

#[test]
fn a_damaged_recording_full_of_marks_is_read_in_time() {
    let folder = Folder::new("marks");
    let file = folder.file("pins");
    write(&file, &[load(plain())], unchanged);
    let mut bytes = fs::read(&file).expect("it is written");
    // The head of a frame of 1 MiB, over and over.
    let head = *b"\xf5PwF\0\0\x10\0\0\0\0\0";
    for _ in 0..(3 << 20) / head.len() {
        bytes.extend(head);
    }
    fs::write(&file, bytes).expect("written");
    let started = Instant::now();
    let output = pinwatch(&["report"], &[&file]);
    assert!(text(&output).contains("1 pins, 0 failed"), "{output:?}");
    // Some seconds without optimisation. Checking each frame from its bytes takes minutes.
    assert!(started.elapsed() < Duration::from_secs(60));
}
