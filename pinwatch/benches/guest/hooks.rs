//! Sets of hooks that are attached while pins are timed.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::{Btf, Ebpf};
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::attach::{Attached, attach_all};
use pinwatch::probe::decision::{Attachment, Decision, Kind, Verdict};
use pinwatch::probe::plan::{Plan, Prefer, Selection};
use pinwatch::probe::table::Measurement;
use pinwatch::source::events::Events;
use pinwatch::source::live::{Live, Options};
use pinwatch_common::event_filter::Listening;

use super::pins::{PIN_PATH, Pins};
use super::session;
use super::tool::{self, Tool};

/// BPF object with empty programs, from pinwatch's build script.
static BASELINE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/baseline"));

/// A named set of hooks.
pub struct HookSet {
    pub name: &'static str,
    /// The set of empty programs that this set is compared with: the lower limit for hooks of its kind.
    pub pair: Option<&'static str>,
    hooks: Hooks,
}

enum Hooks {
    Nothing,
    /// Empty programs on the pin path.
    Empty(&'static [Kind]),
    /// An empty program by kprobe.session.
    Session {
        returns: bool,
    },
    /// A program at the pin's entry that asks the kernel for one value.
    Asking(&'static str),
    /// An empty program at each hook of pinwatch.
    EmptyEverywhere(Prefer),
    Pinwatch {
        prefer: Prefer,
        listeners: u32,
        with: &'static [Measurement],
        without: &'static [Measurement],
    },
    Tool(tool::ToolCommand),
}

const NOTHING: HookSet = HookSet {
    name: "nothing",
    pair: None,
    hooks: Hooks::Nothing,
};

const ORIGIN: &[Measurement] = &[Measurement::Origin];
const ZONES: &[Measurement] = &[Measurement::Zones];
/// What only failing pins and samples pay for.
const BLOCKERS: &[Measurement] = &[Measurement::Blockers, Measurement::UnpinnableZones];
/// Zones, and the measurements that need hooks inside passes.
const SWEEPS: &[Measurement] = &[
    Measurement::Zones,
    Measurement::Passes,
    Measurement::Unpinnable,
    Measurement::Phases,
];

const FENTRY_PAIR: &str = "empty fentry and fexit";
const KPROBE_PAIR: &str = "empty kprobe and kretprobe";

const fn fentry(name: &'static str, hooks: Hooks) -> HookSet {
    let pair = Some(FENTRY_PAIR);
    HookSet { name, pair, hooks }
}

const fn kprobe(name: &'static str, hooks: Hooks) -> HookSet {
    let pair = Some(KPROBE_PAIR);
    HookSet { name, pair, hooks }
}

const fn pinwatch(prefer: Prefer, without: &'static [Measurement]) -> Hooks {
    Hooks::Pinwatch {
        prefer,
        listeners: 0,
        with: &[],
        without,
    }
}

const fn pinwatch_with(prefer: Prefer, with: &'static [Measurement]) -> Hooks {
    Hooks::Pinwatch {
        prefer,
        listeners: 0,
        with,
        without: &[],
    }
}

const fn followed(prefer: Prefer) -> Hooks {
    Hooks::Pinwatch {
        prefer,
        listeners: 1,
        with: &[],
        without: &[],
    }
}

/// All sets of `overhead`. Weak pins and other tools come last: on 6.1 they leave something behind that makes some
/// pins cost up to three times as much with later kprobes on that function.
pub const SETS: &[HookSet] = &[
    NOTHING,
    fentry("empty fentry", Hooks::Empty(&[Kind::Fentry])),
    fentry(FENTRY_PAIR, Hooks::Empty(&[Kind::Fentry, Kind::Fexit])),
    fentry(
        "empty programs at pinwatch's hooks, fentry",
        Hooks::EmptyEverywhere(Prefer::Fentry),
    ),
    fentry("pinwatch, fentry", pinwatch(Prefer::Fentry, &[])),
    fentry(
        "pinwatch, fentry, with a listener",
        followed(Prefer::Fentry),
    ),
    fentry("pinwatch tail, fentry", Hooks::Tool(tool::tail_fentry)),
    fentry("pinwatch record, fentry", Hooks::Tool(tool::record_fentry)),
    fentry(
        "pinwatch, fentry, --without zones",
        pinwatch(Prefer::Fentry, ZONES),
    ),
    fentry(
        "pinwatch, fentry, --without blockers, unpinnable_zones",
        pinwatch(Prefer::Fentry, BLOCKERS),
    ),
    fentry(
        "pinwatch, fentry, --without zones, passes, unpinnable, phases",
        pinwatch(Prefer::Fentry, SWEEPS),
    ),
    kprobe("empty kprobe", Hooks::Empty(&[Kind::Kprobe])),
    kprobe(KPROBE_PAIR, Hooks::Empty(&[Kind::Kprobe, Kind::Kretprobe])),
    kprobe(
        "empty kprobe.session, entry only",
        Hooks::Session { returns: false },
    ),
    kprobe("empty kprobe.session", Hooks::Session { returns: true }),
    kprobe(
        "empty programs at pinwatch's hooks, kprobe",
        Hooks::EmptyEverywhere(Prefer::Kprobe),
    ),
    kprobe("pinwatch, kprobe", pinwatch(Prefer::Kprobe, &[])),
    kprobe(
        "pinwatch, kprobe, with a listener",
        followed(Prefer::Kprobe),
    ),
    kprobe(
        "pinwatch, kprobe, --without zones",
        pinwatch(Prefer::Kprobe, ZONES),
    ),
    kprobe(
        "pinwatch, kprobe, --without blockers, unpinnable_zones",
        pinwatch(Prefer::Kprobe, BLOCKERS),
    ),
    kprobe(
        "pinwatch, kprobe, --without zones, passes, unpinnable, phases",
        pinwatch(Prefer::Kprobe, SWEEPS),
    ),
    fentry(
        "pinwatch, fentry, --with weak_pins",
        pinwatch_with(Prefer::Fentry, &[Measurement::WeakPins]),
    ),
    fentry(
        "pinwatch, fentry, --with fast_path",
        pinwatch_with(Prefer::Fentry, &[Measurement::FastPath]),
    ),
    fentry("funclatency, fentry", Hooks::Tool(tool::funclatency_fentry)),
    kprobe("funclatency, kprobe", Hooks::Tool(tool::funclatency_kprobe)),
    fentry("bpftrace, kfunc", Hooks::Tool(tool::bpftrace_kfunc)),
    kprobe("bpftrace, kprobe", Hooks::Tool(tool::bpftrace_kprobe)),
];

/// All sets of `profile`: programs that ask the kernel for one value, and pinwatch without one measurement.
pub const PARTS: &[HookSet] = &[
    NOTHING,
    fentry("empty fentry", Hooks::Empty(&[Kind::Fentry])),
    fentry(FENTRY_PAIR, Hooks::Empty(&[Kind::Fentry, Kind::Fexit])),
    fentry("clock", Hooks::Asking("clock_fentry")),
    fentry("thread", Hooks::Asking("thread_fentry")),
    fentry("registers", Hooks::Asking("registers_fentry")),
    fentry("memory", Hooks::Asking("memory_fentry")),
    fentry("hooks, fentry", Hooks::EmptyEverywhere(Prefer::Fentry)),
    fentry("all, fentry", pinwatch(Prefer::Fentry, &[])),
    fentry("no origin, fentry", pinwatch(Prefer::Fentry, ORIGIN)),
    fentry("no zones, fentry", pinwatch(Prefer::Fentry, ZONES)),
    kprobe(KPROBE_PAIR, Hooks::Empty(&[Kind::Kprobe, Kind::Kretprobe])),
    kprobe("hooks, kprobe", Hooks::EmptyEverywhere(Prefer::Kprobe)),
    kprobe("all, kprobe", pinwatch(Prefer::Kprobe, &[])),
    kprobe("no origin, kprobe", pinwatch(Prefer::Kprobe, ORIGIN)),
    kprobe("no zones, kprobe", pinwatch(Prefer::Kprobe, ZONES)),
];

/// Attached hooks. Detached when dropped.
pub enum Held {
    Nothing,
    Empty {
        /// Dropped before `_objects`.
        _attached: Vec<Attached>,
        _objects: Vec<Ebpf>,
    },
    Pinwatch {
        live: Box<Live>,
        events: Box<Events>,
    },
    Session(OwnedFd),
    Tool(Tool),
}

impl HookSet {
    /// Attaches the hooks. Fails if the kernel refuses one, or if a tool does not start.
    pub fn attach(&self, facts: &Facts, pins: &mut Pins) -> Result<Held> {
        match self.hooks {
            Hooks::Nothing => Ok(Held::Nothing),
            Hooks::Empty(kinds) => {
                let at = kinds.iter().map(|&kind| Attachment {
                    program: "",
                    twins: Vec::new(),
                    target: PIN_PATH,
                    kind,
                });
                empty(facts, at)
            }
            Hooks::Session { returns } => session::attach(PIN_PATH, returns).map(Held::Session),
            Hooks::Asking(program) => {
                let at = Attachment {
                    program,
                    twins: Vec::new(),
                    target: PIN_PATH,
                    kind: Kind::Fentry,
                };
                empty(facts, [at])
            }
            Hooks::EmptyEverywhere(prefer) => {
                let plan = Plan::new(facts, prefer);
                ensure!(plan.unusable.is_empty(), "{}", plan.unusable.join("; "));
                let mut at: Vec<_> = plan.attachments().map(|(_, at)| at.clone()).collect();
                // One program may take several measurements.
                at.sort_by_key(|at| at.program);
                at.dedup();
                // Each twin is one more program.
                let each = at.iter().flat_map(|at| {
                    at.programs().map(|_| Attachment {
                        program: "",
                        twins: Vec::new(),
                        ..at.clone()
                    })
                });
                empty(facts, each)
            }
            Hooks::Pinwatch {
                prefer,
                listeners,
                with,
                without,
            } => {
                let selection = Selection {
                    prefer,
                    with: with.to_vec(),
                    without: without.to_vec(),
                };
                let mut live = attach_pinwatch(facts, selection)?;
                let mut events = live.take_events()?;
                events.listen(&Listening {
                    listeners,
                    ..Listening::ALL
                })?;
                let (live, events) = (Box::new(live), Box::new(events));
                Ok(Held::Pinwatch { live, events })
            }
            Hooks::Tool(command) => Tool::start(command(facts), pins).map(Held::Tool),
        }
    }
}

impl Held {
    /// Reads the events, if there is a follower. Runs between pins.
    pub fn between(&mut self) {
        if let Self::Pinwatch { events, .. } = self {
            events.by_ref().for_each(drop);
        }
    }

    /// Detaches the hooks. Fails unless pinwatch or the tool has seen the pins.
    pub fn detach(self, pins: u64) -> Result<()> {
        match self {
            Self::Nothing | Self::Empty { .. } => {}
            Self::Session(link) => drop(link),
            Self::Pinwatch { live, .. } => {
                let state = live.state();
                let origins = &state.cells.pins.origins;
                let seen: u64 = origins.iter().flat_map(|o| o.durations).sum();
                ensure!(seen == pins, "pinwatch saw {seen} of {pins} pins");
            }
            Self::Tool(tool) => tool.stop()?,
        }
        Ok(())
    }
}

pub fn attach_pinwatch(facts: &Facts, selection: impl Into<Selection>) -> Result<Live> {
    let options = Options {
        stuck_after: Duration::from_secs(10),
        bpf_log_level: 0,
    };
    Ok(Live::attach(facts, &Plan::new(facts, selection), options)?)
}

/// Attaches programs as pinwatch attaches its own: an empty program at each place that names none.
fn empty(facts: &Facts, places: impl IntoIterator<Item = Attachment>) -> Result<Held> {
    let btf = Btf::from_sys_fs()?;
    let (mut attached, mut objects) = (Vec::new(), Vec::new());
    for place in places {
        // A program can be loaded for one target only.
        let mut object = Ebpf::load(BASELINE)
            .context("cannot load the object with empty programs: build without PINWATCH_EBPF_OBJECT, which leaves it out")?;
        let program = match place.kind {
            _ if !place.program.is_empty() => place.program,
            Kind::Fentry => "empty_fentry",
            Kind::Fexit => "empty_fexit",
            Kind::Kprobe => "empty_kprobe",
            Kind::Kretprobe => "empty_kretprobe",
            Kind::RawTracepoint => "empty_tracepoint",
        };
        let decision = Decision {
            measurement: Measurement::PinEntry,
            verdict: Verdict::Attach {
                attachments: vec![Attachment { program, ..place }],
                note: None,
            },
        };
        let plan = Plan {
            decisions: vec![decision],
            ..Plan::new(facts, Prefer::Auto)
        };
        // Without tracefs, whose definitions are named after programs: several places share one name.
        let done = attach_all(&mut object, &plan, Some(&btf), None, || ());
        if let Some(error) = done.iter().find_map(|done| done.error.as_deref()) {
            anyhow::bail!("{program} at {}: {error}", place.target);
        }
        attached.extend(done);
        objects.push(object);
    }
    Ok(Held::Empty {
        _attached: attached,
        _objects: objects,
    })
}
