//! What user space costs: turning events of the ring buffer into statistics, and
//! statistics into the text that Prometheus reads. Run by `cargo xtask bench user`.

use std::alloc::System;
use std::hint::black_box;

use bytemuck::Zeroable as _;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pinwatch::aggregate::State;
use pinwatch::output::metrics::families;
use pinwatch_common::fold::{CpuCells, ERRNO_CLASSES, PinCells, fold_pin};
use pinwatch_common::record::{ORIGINS, Pin, PinEvent};
use prometheus::{Encoder as _, TextEncoder};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const EVENTS: usize = 4096;

/// A pin of its own kind for each number: origins, results and durations vary.
fn pin(n: usize) -> Pin {
    let failed = n % 8 == 7;
    let errno = ERRNO_CLASSES[n / 8 % ERRNO_CLASSES.len()].0;
    Pin {
        duration_ns: 500 << (n % 20),
        requested: 256,
        returned: if failed { -i64::from(errno) } else { 256 },
        passes: 1 + (n % 4 == 3) as u32,
        unpinnable: (n % 4 == 3) as u64 * 256,
        origin: (n % ORIGINS) as u8,
        ..Pin::zeroed()
    }
}

/// From bytes, as the ring buffer gives them, to cells.
fn fold(criterion: &mut Criterion) {
    let events: Vec<_> = (0..EVENTS)
        .map(|n| {
            let (pin, comm) = (pin(n), *b"pinwatch\0\0\0\0\0\0\0\0");
            bytemuck::bytes_of(&PinEvent { pin, comm }).to_vec()
        })
        .collect();
    let mut cells = Box::new(PinCells::zeroed());
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("events", |bencher| {
        bencher.iter(|| {
            for event in &events {
                let event: PinEvent = bytemuck::pod_read_unaligned(black_box(event));
                fold_pin(&mut cells, &event.pin);
            }
        });
    });
    group.finish();
}

/// A state after pins of so many kinds.
fn state(kinds: usize) -> State {
    let mut cells = Box::new(CpuCells::zeroed());
    for n in 0..kinds {
        fold_pin(&mut cells.pins, &pin(n));
    }
    State {
        cells,
        ..State::empty("6.12.0", "folios")
    }
}

fn text(state: &State) -> Vec<u8> {
    let mut text = Vec::new();
    let encoded = TextEncoder::new().encode(&families(state), &mut text);
    encoded.expect("families are consistent");
    text
}

/// The series that there are after nothing, a pin of one origin, and pins of all.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for kinds in [0, 1, 5, EVENTS] {
        let state = state(kinds);
        let region = Region::new(ALLOCATOR);
        let text_once = text(&state);
        let allocations = region.change().allocations;
        let bytes = text_once.len();
        let lines = text_once.split(|byte| *byte == b'\n');
        let series = lines.filter(|l| !l.is_empty() && l[0] != b'#').count();
        // For `cargo xtask bench user`, which has the times from criterion's own files.
        println!("encode {series} {bytes} {allocations}");
        group.throughput(Throughput::Elements(series as u64));
        group.bench_function(BenchmarkId::from_parameter(series), |bencher| {
            bencher.iter(|| black_box(text(&state)));
        });
    }
    group.finish();
}

criterion_group!(benches, fold, encode);
criterion_main!(benches);
