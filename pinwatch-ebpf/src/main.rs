//! BPF programs of pinwatch. `pinwatch::probe::plan` decides in user space which of them are loaded.
//!
//! Each file under `probes` hooks one step of the kernel's path. It has one thin entry per kind of
//! attachment, and one body that the entries share.
//!
//! Invariants:
//!
//! - All statistics come from `pinwatch_common::fold`; nothing else counts pins.
//! - Only `kernel` reads kernel memory and calls helpers that return kernel state.
//! - Only `event` writes the ring buffer of events.
//! - Only `slot` reads and writes the claims and owners of slots.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arch;
mod blockers;
mod event;
mod gup_fast;
mod kernel;
mod lifecycle;
mod maps;
mod preemption;
mod probes;
mod slot;
mod unmatched;
mod unpinnable;
mod watch;
mod weak;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: no panic is reachable in a program that the verifier accepts; the linker drops this
    // function.
    unsafe { core::hint::unreachable_unchecked() }
}
