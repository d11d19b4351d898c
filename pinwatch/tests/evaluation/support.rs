//! Synthetic recordings, and pinwatch on them.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytemuck::Zeroable as _;
use pinwatch::host::machine::Machine;
use pinwatch::model::agent_status::AgentStatus;
use pinwatch::model::session::Start;
use pinwatch::model::state::State;
use pinwatch::model::trace::{Pass, Traced};
use pinwatch::recording::{End, Header, Writer};
use pinwatch_common::abi::ABI_VERSION;
use pinwatch_common::cause::PassOutcome;
use pinwatch_common::record::{Pin, PinEvent};
use pinwatch_common::weak::Holder;

/// A temporary folder, removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pinwatch-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A random number generator with a fixed seed (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1.
    pub fn share(&mut self) -> f64 {
        self.next() as f64 / u64::MAX as f64
    }
}

/// Behaviour of a synthetic kernel, and the machine that it runs on.
#[derive(Clone, Copy)]
pub struct Kernel {
    pub ns_per_page: f64,
    /// Share of pins of held memory that fail, from 0 to 1.
    pub fails: f64,
    /// Whether pins migrate their pages out of ZONE_MOVABLE.
    pub moves: bool,
    pub memory_kib: u64,
    /// Duration of the calibration work, if the recording has it.
    pub yardstick_ns: Option<u64>,
}

pub const OLD: Kernel = Kernel {
    ns_per_page: 100.0,
    fails: 0.0,
    moves: false,
    memory_kib: 2_000_000,
    yardstick_ns: None,
};

/// Index of the zone.
pub const MOVABLE: u8 = 3;

pub fn header(kernel: Kernel) -> Header {
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
pub fn pin(kernel: Kernel, n: u64, dice: &mut Dice) -> Traced {
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
        outcome: PassOutcome::Busy as u8,
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
        sampled_place: if fails {
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
    let event = PinEvent {
        pin,
        comm,
        holder: Holder::NONE,
    };
    Traced { event, passes }
}

/// Writes a recording of `pins` pins.
pub fn record(path: &Path, kernel: Kernel, pins: u64, seed: u64) {
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

pub fn pinwatch(args: &[&str], files: &[&Path]) -> Output {
    let mut pinwatch = Command::new(env!("CARGO_BIN_EXE_pinwatch"));
    pinwatch.args(args).args(files).output().expect("it runs")
}

pub fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// A pin of 256 pages that succeeds in one pass.
pub fn plain() -> Pin {
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
pub fn busy() -> Pin {
    Pin {
        returned: -12,
        outcome: PassOutcome::Busy as u8,
        migrate_calls: 1,
        ..plain()
    }
}

pub fn named(comm: &str, pin: Pin) -> Traced {
    let mut event = PinEvent {
        pin,
        comm: [0; 16],
        holder: Holder::NONE,
    };
    event.comm[..comm.len()].copy_from_slice(comm.as_bytes());
    let passes = Vec::new();
    Traced { event, passes }
}

pub fn load(pin: Pin) -> Traced {
    named("load", pin)
}

/// A pass that fails `failures` times to isolate a page, or a sum of so many passes.
pub fn isolating(failures: u32) -> Pass {
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
pub fn passing(returned: i64, passes: Vec<Pass>) -> Traced {
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
pub fn write(path: &Path, pins: &[Traced], change: impl FnOnce(&mut Header, &mut End)) {
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

pub fn unchanged(_: &mut Header, _: &mut End) {}

/// Puts pins in flight into the last frame, at `now_ns`.
pub fn in_flight(end: &mut End, now_ns: u64, pins: Vec<Pin>) {
    let state = State {
        in_flight: pins,
        now_ns,
        stuck_after_ns: end.status.stuck_after_ns,
        ..State::empty("6.12", "folios")
    };
    end.status = AgentStatus::of(&state);
}

/// A pin that has looped on isolation since the start.
pub fn looping() -> Pin {
    Pin {
        start_ns: 5,
        tid: 77,
        tgid: 77,
        passes: 4_000_000,
        unpinnable: 4_000_000,
        isolate_failures: [4_000_000, 0, 0],
        outcome: PassOutcome::NotIsolated as u8,
        duration_ns: 0,
        returned: 0,
        ended: 0,
        ..plain()
    }
}

/// Exit status and text of a comparison with all of its figures.
pub fn compared(base: &Path, new: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = pinwatch(&[&["compare", "--all"], args].concat(), &[base, new]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text(&output) + &error)
}

/// Verdict on a claim.
pub fn verdict(file: &Path, id: &str) -> String {
    let output = pinwatch(&["report", "--json"], &[file]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut claims = json["claims"].as_array().expect("claims").iter();
    let claim = claims.find(|claim| claim["id"] == id).expect("the claim");
    let needs = claim["needs"].as_str().unwrap_or_default();
    format!("{} {needs}", claim["verdict"].as_str().unwrap_or_default())
}
