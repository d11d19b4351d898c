//! Speed of the machine at the moment: the time of a fixed computation without pins.
//!
//! If this time differs between two recordings, durations of pins may differ for the same reason.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
use std::hint::black_box;
use std::time::Instant;

/// About 30 ms on a processor of 2020: long enough to include the time that other tasks take.
const STEPS: u32 = 20_000_000;

/// Duration of the computation, in nanoseconds.
#[must_use]
pub fn measure() -> u64 {
    let started = Instant::now();
    // Each step depends on its predecessor, so that a CPU cannot overlap steps. The multiplier is Knuth's
    // (TAOCP 2, 3.3.4).
    (0..STEPS).fold(1u64, |x, _| {
        black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1))
    });
    started.elapsed().as_nanos() as u64
}

/// Whether the clock counts instructions, one nanosecond each, as that of `qemu -icount shift=0` does;
/// `None` on architectures for which no loop is written here.
///
/// Two loops of known length but of different speed take exactly one nanosecond per instruction. On a
/// processor that keeps time, a chain of multiplications takes several times as long as the same number of
/// instructions without dependences.
#[must_use]
pub fn counts_instructions() -> Option<bool> {
    /// Far above what reading the clock takes, and short enough to fit between two timer interrupts.
    const ROUNDS: u64 = 100_000;
    /// Some of them are not interrupted.
    const TRIES: usize = 5;
    let is_counted = |(instructions, run): Loop| {
        let times = (0..TRIES).map(|_| {
            let started = Instant::now();
            run(ROUNDS);
            started.elapsed().as_nanos() as f64
        });
        let expected = (instructions * ROUNDS) as f64;
        let least = times.fold(f64::INFINITY, f64::min);
        (least / expected - 1.0).abs() < 0.02
    };
    Some(loops()?.into_iter().all(is_counted))
}

/// Instructions of a round, and a function that makes this many rounds.
type Loop = (u64, fn(u64));

/// Two loops: a chain of multiplications, and independent instructions.
fn loops() -> Option<[Loop; 2]> {
    #[cfg(target_arch = "x86_64")]
    return Some([
        (4, |rounds| {
            // SAFETY: it changes only the named registers, and the flags, which `asm!` assumes to change.
            unsafe {
                asm!("2:", "imul {x}, {x}", "imul {x}, {x}", "dec {n}", "jnz 2b",
                    n = inout(reg) rounds => _, x = inout(reg) 3u64 => _, options(nomem, nostack));
            }
        }),
        (8, |rounds| {
            // SAFETY: as above.
            unsafe {
                asm!("2:", "nop", "nop", "nop", "nop", "nop", "nop", "dec {n}", "jnz 2b",
                    n = inout(reg) rounds => _, options(nomem, nostack));
            }
        }),
    ]);
    #[cfg(target_arch = "aarch64")]
    return Some([
        (4, |rounds| {
            // SAFETY: it changes only the named registers, and the flags, which `asm!` assumes to change.
            unsafe {
                asm!("2:", "mul {x}, {x}, {x}", "mul {x}, {x}, {x}", "subs {n}, {n}, #1", "b.ne 2b",
                    n = inout(reg) rounds => _, x = inout(reg) 3u64 => _, options(nomem, nostack));
            }
        }),
        (8, |rounds| {
            // SAFETY: as above.
            unsafe {
                asm!("2:", "nop", "nop", "nop", "nop", "nop", "nop", "subs {n}, {n}, #1", "b.ne 2b",
                    n = inout(reg) rounds => _, options(nomem, nostack));
            }
        }),
    ]);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    None
}
