//! Cost of user space: folding events and recordings into cells, and encoding metrics as text. `cargo xtask
//! bench user` runs it without arguments for times, and with `--count` for one piece of work under an
//! instruction counter.

use std::alloc::System;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytemuck::Zeroable as _;
use criterion::{BenchmarkId, Criterion, Throughput};
use pinwatch::host::machine::Machine;
use pinwatch::model::series::{Per, Series, Sums};
use pinwatch::model::session::Start;
use pinwatch::model::state::State;
use pinwatch::model::trace::Traced;
use pinwatch::output::metrics::text::{TextFormat, encode};
use pinwatch::recording::{End, Header, Item, Reader, Writer};
use pinwatch_common::abi::ABI_VERSION;
use pinwatch_common::cause::ERRNO_CLASSES;
use pinwatch_common::cells::{CpuCells, PinCells};
use pinwatch_common::fold::fold_pin;
use pinwatch_common::record::{ORIGINS, Pin, PinEvent};
use pinwatch_common::weak::Holder;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const EVENTS: usize = 4096;
/// Numbers of processes whose series are encoded: three each, besides those of every scrape. The last are more than a
/// scrape should have.
const PROCESSES: [usize; 4] = [0, 300, 3_300, 33_000];

/// The `n`th pin. Origins, results and durations vary with `n`.
fn pin(n: usize) -> Pin {
    let failed = n % 8 == 7;
    let errno = ERRNO_CLASSES[n / 8 % ERRNO_CLASSES.len()].0;
    Pin {
        start_ns: n as u64 * 10_000,
        duration_ns: 500 << (n % 20),
        tgid: 4_000 + n as u32 % 7,
        tid: 4_100 + n as u32 % 31,
        requested: 256,
        returned: if failed { -i64::from(errno) } else { 256 },
        passes: 1 + (n % 4 == 3) as u32,
        unpinnable: (n % 4 == 3) as u64 * 256,
        origin: (n % ORIGINS) as u8,
        ..Pin::zeroed()
    }
}

fn events() -> Vec<PinEvent> {
    let event = |n| PinEvent {
        holder: Holder::NONE,
        pin: pin(n),
        comm: *b"pinwatch\0\0\0\0\0\0\0\0",
    };
    (0..EVENTS).map(event).collect()
}

/// Folds events into cells, from bytes as the ring buffer has them.
fn fold(events: &[Vec<u8>], cells: &mut PinCells) {
    for event in events {
        let event: PinEvent = bytemuck::pod_read_unaligned(black_box(event));
        fold_pin(cells, &event.pin);
    }
}

fn as_bytes(events: &[PinEvent]) -> Vec<Vec<u8>> {
    let bytes = events.iter().map(|e| bytemuck::bytes_of(e).to_vec());
    bytes.collect()
}

/// A recording in memory.
fn recording(events: &[PinEvent]) -> Vec<u8> {
    let start = Start {
        abi: ABI_VERSION,
        version: String::new(),
        release: "6.12.0".to_owned(),
        era: "folios".to_owned(),
        wall_offset_ns: 0,
        status: Box::default(),
    };
    let header = Header::new(start, None, Machine::default());
    let pins = events.iter().map(|event| Traced {
        event: *event,
        passes: Vec::new(),
    });
    let pins: Vec<_> = pins.collect();
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, &header, false).expect("memory");
    writer.pins(&pins).expect("memory");
    writer.end(&End::default()).expect("memory");
    file
}

/// Folds a recording into cells.
fn replay(recording: &[u8], cells: &mut PinCells) {
    let mut reader = Reader::new(black_box(recording)).expect("a recording");
    while let Some(item) = reader.next_item().expect("memory") {
        if let Item::Pins(pins) = item {
            pins.iter()
                .for_each(|traced| fold_pin(cells, &traced.event.pin));
        }
    }
}

/// A state with pins of all kinds, and the pins of this many processes in series of their own.
fn state_with(processes: usize) -> (State, Series) {
    let mut cells = Box::new(CpuCells::zeroed());
    (0..EVENTS).for_each(|n| fold_pin(&mut cells.pins, &pin(n)));
    let state = State {
        cells,
        ..State::empty("6.12.0", "folios")
    };
    let most = NonZeroUsize::new(processes).unwrap_or(NonZeroUsize::MIN);
    let mut series = Series::new(Per::Process, most);
    for n in 0..processes {
        let labels = vec![("comm", format!("qemu-{n}")), ("unit", UNIT.to_owned())];
        series.add(labels, Sums::from(&pin(n)), Duration::ZERO);
    }
    (state, series)
}

const UNIT: &str = "machine-qemu.scope";

/// Copies the state and its series, and encodes both. A scrape reads both anew, too.
fn text((state, series): &(State, Series)) -> String {
    let state = State {
        series: Some(series.snapshot()),
        ..state.clone()
    };
    encode(Some(&state), &[], TextFormat::OpenMetrics)
}

fn times(criterion: &mut Criterion) {
    let events = events();
    let (bytes, recording) = (as_bytes(&events), recording(&events));
    let mut cells = Box::new(PinCells::zeroed());
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("events", |bencher| {
        bencher.iter(|| fold(&bytes, &mut cells));
    });
    group.bench_function("recording", |bencher| {
        bencher.iter(|| replay(&recording, &mut cells));
    });
    group.finish();
    let mut group = criterion.benchmark_group("encode");
    for processes in PROCESSES {
        let state = state_with(processes);
        let region = Region::new(ALLOCATOR);
        let text_once = text(&state);
        let allocations = region.change().allocations;
        let bytes = text_once.len();
        let series = text_once.lines().filter(|line| !line.starts_with('#'));
        let series = series.count();
        // `cargo xtask bench user` reads this line, and the times from criterion's files.
        println!("encode {processes} {series} {bytes} {allocations}");
        group.throughput(Throughput::Elements(series as u64));
        group.bench_function(BenchmarkId::from_parameter(processes), |bencher| {
            bencher.iter(|| black_box(text(&state)));
        });
    }
    group.finish();
}

/// Does a piece of work `times` times. The difference of two counts excludes the preparation.
fn count(work: &str, times: usize) {
    let events = events();
    let mut cells = Box::new(PinCells::zeroed());
    match work.split_once('/') {
        Some(("fold", "events")) => {
            let bytes = as_bytes(&events);
            (0..times).for_each(|_| fold(&bytes, &mut cells));
        }
        Some(("fold", "recording")) => {
            let recording = recording(&events);
            (0..times).for_each(|_| replay(&recording, &mut cells));
        }
        Some(("encode", processes)) => {
            let state = state_with(processes.parse().expect("a number of processes"));
            (0..times).for_each(|_| drop(black_box(text(&state))));
        }
        _ => panic!("unknown work {work}: use fold/events, fold/recording or encode/PROCESSES"),
    }
    black_box(&cells);
}

fn main() {
    let args: Vec<_> = std::env::args().collect();
    if let [_, flag, work, times] = &args[..]
        && flag == "--count"
    {
        return count(work, times.parse().expect("a number"));
    }
    let mut criterion = Criterion::default().configure_from_args();
    times(&mut criterion);
    criterion.final_summary();
}
