//! Runs `pinwatch report`, `replay` and `compare` on synthetic recordings.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytemuck::Zeroable as _;
use pinwatch::host::machine::Machine;
use pinwatch::model::agent_status::AgentStatus;
use pinwatch::model::session::Start;
use pinwatch::model::trace::{Pass, Traced};
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
