//! The running kernel as a source: loads the BPF object, attaches the plan, and reads the state.
//!
//! Statistics and pins in flight are read from memory shared with the kernel, without bpf(2) calls.
//! `pinwatch_ebpf::maps` has the reason.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aya::Ebpf;
use aya_log::EbpfLogger;
use bytemuck::Zeroable as _;
use memmap2::MmapRaw;
use pinwatch_common::cells::CpuCells;
use pinwatch_common::limits::SLOTS;
use pinwatch_common::place::PLACES;
use pinwatch_common::record::{Flight, PHASES, Pin, Slot};
use pinwatch_common::weak::{Blocked, HOLDERS};

use super::error::LiveError;
use super::events::{EventCount, Events};
use super::function_ids::btf_with;
use super::holds::HoldTimer;
use super::object::{self, possible_cpus};
use super::pinned::PinnedReader;
use super::program_info::{ProgramInfo, fdinfo_field};
use super::shared_memory::{share, word_at};
use super::skips::SkipCounts;
use super::stack::Stacks;
use super::stall::LiveThreads;
use super::switch_watch::{SwitchWatch, fail_silent};
use crate::host::clock::monotonic_ns;
use crate::kernel::facts::Facts;
use crate::kernel::procfs::{self, threads_inside_a_pin};
use crate::kernel::switches::SwitchFiles;
use crate::model::pinned::PinnedSource;
use crate::model::state::{Hook, ProgramStats, State};
use crate::model::thread::Threads;
use crate::probe::attach::{Attached, attach_all};
use crate::probe::decision::{Decision, Kind};
use crate::probe::plan::Plan;
use crate::probe::silence::silence;
use crate::probe::table::Measurement;
use crate::probe::tracefs::{Profile, Tracefs};

/// Settings of the source.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Age from which a pin in flight counts as stuck.
    pub stuck_after: Duration,
    /// Log level of the BPF programs; 0 removes their log calls when the object is loaded.
    pub bpf_log_level: u8,
}

/// The loaded and attached programs. Dropping it detaches all of them.
pub struct Live {
    /// Declared before `ebpf`, and so dropped first: no perf event refers to an unloaded program.
    attached: Vec<Attached>,
    ebpf: Ebpf,
    slots: MmapRaw,
    cells: MmapRaw,
    held: MmapRaw,
    stacks: Stacks,
    events_sent: EventCount,
    /// `None` if holds are not measured, and once it is taken.
    hold_timer: Option<HoldTimer>,
    switches: SwitchWatch,
    cpus: usize,
    release: String,
    era: &'static str,
    zones: [Option<&'static str>; PLACES],
    pageblocks: [Option<&'static str>; PLACES],
    decisions: Arc<[Decision]>,
    stuck_after: Duration,
    /// Pins that were in flight before their entry was hooked.
    before_start: u64,
    /// Only on a kernel that preempts BPF programs.
    skips: Option<SkipCounts>,
    program_info: ProgramInfo,
    threads: Arc<LiveThreads>,
    pinned: Arc<PinnedReader>,
}

impl Live {
    /// Loads the BPF object and attaches the plan. An error if pins cannot be measured at all.
    pub fn attach(facts: &Facts, plan: &Plan, options: Options) -> Result<Self, LiveError> {
        if !plan.unusable.is_empty() {
            return Err(LiveError::Unusable(plan.unusable.clone()));
        }
        let cpus = possible_cpus()?;
        let globals = plan.globals;
        // Only trampolines need BTF ids: the object has no CO-RE relocations.
        let trampolines = plan
            .attachments()
            .any(|(_, attachment)| matches!(attachment.kind, Kind::Fentry | Kind::Fexit));
        let ids = Some(&facts.ids).filter(|_| trampolines && facts.btf_error.is_none());
        let btf = ids.map(btf_with);
        let page_struct = facts.page_struct();
        let config = globals.config(slot_secret(), page_struct);
        let object = object::resolved(&globals, &facts.ids, page_struct.is_some())?;
        let mut ebpf = object::load(&object, &globals, &config, options.bpf_log_level)?;
        drop(object);
        let tracefs = open_tracefs(facts);
        let mut before_start = 0;
        let count_pins = || before_start = threads_inside_a_pin();
        let mut attached = attach_all(&mut ebpf, plan, btf.as_ref(), tracefs.as_ref(), count_pins);
        let switches = SwitchFiles::open();
        fail_silent(&mut attached, &switches.read());
        for Attached {
            measurement,
            attachment,
            error,
            ..
        } in &attached
        {
            if let (Measurement::PinEntry | Measurement::PinReturn, Some(reason)) =
                (measurement, error)
            {
                return Err(LiveError::Attach {
                    program: attachment.program,
                    target: attachment.target,
                    reason: reason.clone(),
                });
            }
        }
        let kretprobes = plan
            .attachments()
            .any(|(_, attachment)| attachment.kind == Kind::Kretprobe);
        let stacks = Stacks::load(&mut ebpf, !kretprobes)?;
        let hold_timer = globals.watches().then(|| HoldTimer::load(&mut ebpf));
        let hold_timer = hold_timer.and_then(|timer| {
            timer
                .inspect_err(|error| {
                    tracing::warn!("how long blockers hold is not measured: {error}")
                })
                .ok()
        });
        let slots = share::<Slot>(&ebpf, "SLOTS", SLOTS as usize)?;
        let cells = share::<CpuCells>(&ebpf, "CELLS", cpus)?;
        let held = share::<Blocked>(&ebpf, "HELD", HOLDERS as usize)?;
        let events_sent = EventCount::share(&ebpf)?;
        let skips = globals
            .preempts
            .then(|| SkipCounts::start(&ebpf, cpus, &attached))
            .transpose()?;
        let program_info = ProgramInfo::open(&ebpf);
        Ok(Self {
            program_info,
            threads: Arc::default(),
            pinned: Arc::default(),
            attached,
            ebpf,
            slots,
            cells,
            held,
            stacks,
            events_sent,
            hold_timer,
            switches: SwitchWatch::new(switches),
            cpus,
            release: facts.release.clone(),
            era: plan.era,
            zones: globals.zone_names(facts),
            pageblocks: globals.pageblock_names(facts),
            decisions: plan.decisions.clone().into(),
            stuck_after: options.stuck_after,
            before_start,
            skips,
        })
    }

    /// Result of attaching each hook.
    #[must_use]
    pub fn attached(&self) -> &[Attached] {
        &self.attached
    }

    /// Reads cells, slots, switches and program statistics.
    #[must_use]
    pub fn state(&self) -> State {
        let mut cells = Box::new(CpuCells::zeroed());
        let sum = bytemuck::cast_slice_mut::<CpuCells, u64>(std::slice::from_mut(&mut *cells));
        for cpu in 0..self.cpus {
            for (word, total) in sum.iter_mut().enumerate() {
                *total = total.wrapping_add(word_at::<CpuCells>(&self.cells, cpu, word));
            }
        }
        let in_flight = (0..SLOTS as usize)
            .filter_map(|slot| self.pin_in(slot))
            .collect();
        const CLAIMS: usize = std::mem::offset_of!(Slot, claims) / 8;
        let claimed = (0..SLOTS as usize)
            .filter(|slot| word_at::<Slot>(&self.slots, *slot, CLAIMS) != 0)
            .count();
        let switches = self.switches.check(self.kinds());
        let hooks = self.attached.iter().map(|attached| Hook {
            measurement: attached.measurement,
            kind: attached.attachment.kind,
            target: attached.attachment.target.into(),
            attached: attached.error.is_none()
                && silence(attached.attachment.kind, &switches).is_none(),
            lower_bound: self.skips.is_some() && attached.attachment.kind.is_probe(),
        });
        State {
            release: self.release.clone(),
            era: self.era.to_owned(),
            zones: self.zones,
            pageblocks: self.pageblocks,
            before_start: self.before_start,
            cells,
            in_flight,
            threads: Threads::Live(Arc::clone(&self.threads) as _),
            claimed,
            // Read after the slots, so that no age is negative.
            now_ns: monotonic_ns(),
            // More than 584 years is never.
            stuck_after_ns: u64::try_from(self.stuck_after.as_nanos()).unwrap_or(u64::MAX),
            decisions: Arc::clone(&self.decisions),
            hooks: hooks.collect(),
            switches,
            events_sent: self.events_sent.read(),
            series: None,
            pinned: PinnedSource::Live(Arc::clone(&self.pinned) as _),
            programs: self.program_stats(),
            blocked: (0..HOLDERS as usize)
                .filter_map(|entry| self.blocked(entry))
                .collect(),
        }
    }

    /// Kinds of the attached hooks.
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let attached = self.attached.iter().filter(|hook| hook.error.is_none());
        attached.map(|hook| hook.attachment.kind)
    }

    /// The sampler of kernel stacks.
    #[must_use]
    pub fn stacks(&self) -> &Stacks {
        &self.stacks
    }

    /// The pin in a slot; `None` if the slot is free, its call has returned, or it changed during the read.
    fn pin_in(&self, slot: usize) -> Option<Pin> {
        const OWNER: usize = std::mem::offset_of!(Slot, owner) / 8;
        const FLIGHT: usize = std::mem::offset_of!(Slot, flight) / 8;
        let owner = || word_at::<Slot>(&self.slots, slot, OWNER);
        let before = owner();
        if before as u32 == 0 {
            return None;
        }
        let mut flight = Flight::zeroed();
        let words = bytemuck::cast_slice_mut::<Flight, u64>(std::slice::from_mut(&mut flight));
        for (n, word) in words.iter_mut().enumerate() {
            *word = word_at::<Slot>(&self.slots, slot, FLIGHT + n);
        }
        const START: usize = FLIGHT + std::mem::offset_of!(Flight, pin.start_ns) / 8;
        let same_pin = flight.pin.start_ns == word_at::<Slot>(&self.slots, slot, START);
        (before == owner() && same_pin && !flight.call.has_returned())
            .then(|| in_flight(flight.pin, before))
    }

    /// The pin in an entry of `HELD`; `None` if there is none, or it changed during the read.
    fn blocked(&self, entry: usize) -> Option<Blocked> {
        const PIN: usize = std::mem::offset_of!(Blocked, pin_ns) / 8;
        const FOLIO: usize = std::mem::offset_of!(Blocked, folio) / 8;
        let key = || [PIN, FOLIO].map(|word| word_at::<Blocked>(&self.held, entry, word));
        let before = key();
        let mut blocked = Blocked::zeroed();
        let words = bytemuck::cast_slice_mut::<Blocked, u64>(std::slice::from_mut(&mut blocked));
        for (n, word) in words.iter_mut().enumerate() {
            *word = word_at::<Blocked>(&self.held, entry, n);
        }
        (before == key() && blocked.holder.is_some()).then_some(blocked)
    }

    fn program_stats(&self) -> Vec<ProgramStats> {
        let counted =
            procfs::read("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|text| text.trim() == "1");
        let attached = self.attached.iter().filter(|hook| hook.error.is_none());
        // A program that serves two measurements counts once: the first one holds its kprobe.
        let mut seen = BTreeSet::new();
        let attached = attached.filter(|attached| seen.insert(attached.attachment.program));
        let programs = attached.flat_map(|attached| {
            let profile = attached.kprobe.as_ref().and_then(|kprobe| kprobe.profile());
            let names = attached.attachment.programs();
            names.map(move |name| (name, !attached.attachment.twins.is_empty(), profile))
        });
        let stats = programs.filter_map(|(name, has_twin, profile)| {
            self.ebpf.program(name)?;
            let info = self.program_info.read(name);
            let field = |key: &str| fdinfo_field(info.as_deref()?, key);
            let runs = field("run_cnt:")
                .zip(field("run_time_ns:"))
                .filter(|_| counted);
            Some(ProgramStats {
                program: name.into(),
                has_twin,
                runs,
                skipped: self
                    .skipped(name, profile)
                    .or_else(|| field("recursion_misses:")),
                missed: profile.map(|profile| profile.misses),
            })
        });
        stats.collect()
    }

    /// Runs of a kprobe program that the kernel skipped; `None` if it preempts no program, or the program
    /// does not count its runs.
    fn skipped(&self, program: &str, profile: Option<Profile>) -> Option<u64> {
        self.skips.as_ref()?.skipped(program, profile?.hits)
    }

    /// Instructions that the verifier processed for each program; empty before 5.16, which has no such count.
    pub fn verified(&self) -> impl Iterator<Item = (&str, u32)> {
        let programs = self.ebpf.programs();
        programs.filter_map(|(name, program)| {
            // Fails for a program that is not loaded.
            let info = program.info().ok()?;
            Some((name, info.verified_instruction_count()?))
        })
    }

    /// The reader of events. An error the second time.
    pub fn take_events(&mut self) -> Result<Events, LiveError> {
        Events::take(&mut self.ebpf)
    }

    /// The timer that measures how long blockers hold; `None` the second time, and if it is not available.
    pub fn take_hold_timer(&mut self) -> Option<HoldTimer> {
        self.hold_timer.take()
    }

    /// The reader of the BPF programs' log lines. An error the second time.
    pub fn take_logger<T: log::Log>(&mut self, logger: T) -> Result<EbpfLogger<T>, LiveError> {
        EbpfLogger::init_with_logger(&mut self.ebpf, logger)
            .map_err(|error| LiveError::Map("AYA_LOGS", error.to_string()))
    }
}

/// A pin in flight, from its slot. Clears fields that still hold values of the slot's previous pin: see
/// [`Flight::begin_events`].
fn in_flight(mut pin: Pin, owner: u64) -> Pin {
    (pin.tid, pin.tgid) = (owner as u32, (owner >> u32::BITS) as u32);
    (pin.duration_ns, pin.returned, pin.ended) = (0, 0, 0);
    if pin.eventful == 0 {
        pin.phase_ns = [0; PHASES];
    }
    pin
}

/// Opens tracefs and removes the kprobes of pinwatch processes that were killed.
fn open_tracefs(facts: &Facts) -> Option<Arc<Tracefs>> {
    let dir = facts.tracefs.as_ref()?;
    let tracefs = Tracefs::open(Path::new(dir))
        .inspect_err(|error| {
            tracing::warn!(
                "kprobes are attached without tracefs, so lost returns are not counted: {error}"
            )
        })
        .ok()?;
    if let Err(error) = tracefs.remove_leftovers() {
        tracing::warn!("kprobes of killed pinwatch processes remain: {error}");
    }
    Some(Arc::new(tracefs))
}

/// An odd number that users of this machine cannot know.
fn slot_secret() -> u32 {
    RandomState::new().build_hasher().finish() as u32 | 1
}
