//! Imitates another BPF agent: threads that call bpf(2) on a map without pause.
//!
//! Look-ups and updates raise `bpf_prog_active` and leave preemption enabled. The kernel skips
//! kprobe programs on a CPU whose counter a preempted thread left raised.

use std::mem;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_type};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

const THREADS_PER_CPU: usize = 2;
const KEYS: u32 = 10_000;
/// Elements in one batch operation.
const BATCH: usize = 64;

/// The bpf(2) commands in one turn of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operations {
    /// `BPF_MAP_UPDATE_ELEM`.
    Updates,
    /// `BPF_MAP_LOOKUP_ELEM`, `BPF_MAP_LOOKUP_BATCH` and `BPF_MAP_UPDATE_BATCH`.
    #[allow(dead_code, reason = "the live tests have updates alone")]
    LookUps,
}

/// Threads that use a map. They stop when this is dropped.
pub struct MapUser {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl MapUser {
    /// Starts two threads on each CPU. They all use one hash map.
    pub fn start(what: Operations) -> Self {
        let map = Arc::new(Map::create());
        map.fill();
        let (stop, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let cpus = thread::available_parallelism().expect("a number").get();
        let thread = |n| {
            let (map, stop, calls) = (Arc::clone(&map), Arc::clone(&stop), Arc::clone(&calls));
            thread::spawn(move || {
                pin_to_cpu(n % cpus);
                for key in (0..KEYS).cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    match what {
                        Operations::Updates => map.update(key),
                        Operations::LookUps => map.look_up(key),
                    }
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads = (0..cpus * THREADS_PER_CPU).map(thread).collect();
        Self {
            stop,
            calls,
            threads,
        }
    }

    /// Turns of all threads so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Drop for MapUser {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("bpf(2) succeeds");
        }
    }
}

fn pin_to_cpu(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("a CPU of this machine");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("an online CPU");
}

/// A hash map from `u32` to `u64`.
struct Map(OwnedFd);

impl Map {
    fn create() -> Self {
        let mut attr = zeroed();
        // SAFETY: the attributes are zeroed and have no invalid bit pattern.
        let map = unsafe { &mut attr.__bindgen_anon_1 };
        map.map_type = bpf_map_type::BPF_MAP_TYPE_HASH as u32;
        map.key_size = size_of::<u32>() as u32;
        map.value_size = size_of::<u64>() as u32;
        map.max_entries = 2 * KEYS;
        let fd = bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr).expect("a map");
        // SAFETY: the descriptor is new and has no other owner.
        Self(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn fill(&self) {
        for key in (0..KEYS).step_by(BATCH) {
            self.update_batch(key);
        }
    }

    fn update(&self, key: u32) {
        self.element(bpf_cmd::BPF_MAP_UPDATE_ELEM, key);
    }

    fn look_up(&self, key: u32) {
        self.element(bpf_cmd::BPF_MAP_LOOKUP_ELEM, key);
        self.look_up_batch();
        self.update_batch(key);
    }

    fn element(&self, command: bpf_cmd, key: u32) {
        let mut value = 0u64;
        let mut attr = zeroed();
        // SAFETY: as in `create`.
        let element = unsafe { &mut attr.__bindgen_anon_2 };
        element.map_fd = self.0.as_raw_fd() as u32;
        element.key = (&raw const key) as u64;
        element.__bindgen_anon_1.value = (&raw mut value) as u64;
        bpf(command, &mut attr).expect("every key is in the map");
    }

    fn look_up_batch(&self) {
        let (mut keys, mut values) = ([0u32; BATCH], [0u64; BATCH]);
        let mut next = 0u32;
        let mut attr = self.batch(keys.as_mut_ptr(), values.as_mut_ptr());
        attr.batch.out_batch = (&raw mut next) as u64;
        bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr).expect("more keys than a batch has");
    }

    fn update_batch(&self, first: u32) {
        let mut keys: [u32; BATCH] = std::array::from_fn(|n| (first + n as u32) % KEYS);
        let mut values = [0u64; BATCH];
        let mut attr = self.batch(keys.as_mut_ptr(), values.as_mut_ptr());
        bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).expect("room for every key");
    }

    fn batch(&self, keys: *mut u32, values: *mut u64) -> bpf_attr {
        let mut attr = zeroed();
        // SAFETY: as in `create`.
        let batch = unsafe { &mut attr.batch };
        batch.keys = keys as u64;
        batch.values = values as u64;
        batch.count = BATCH as u32;
        batch.map_fd = self.0.as_raw_fd() as u32;
        attr
    }
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of integers.
    unsafe { mem::zeroed() }
}

/// Calls bpf(2). Every pointer in `attr` must be valid for the command.
fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> nix::Result<i32> {
    // SAFETY: the size is that of `attr`, and the callers above keep the memory behind its pointers alive.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of_val(attr)) };
    Errno::result(done).map(|fd| fd as i32)
}
