//! pinwatch's BPF programs. Each file under `probes` hooks one thing; the entry
//! for each kind of attachment is thin and shares one body with the others.
//! Which of them are loaded is decided in user space, by `pinwatch::probe::plan`.
//!
//! Nothing here counts with a second implementation: statistics come from
//! `pinwatch_common::fold`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod emit;
mod fast;
mod kernel;
mod maps;
mod pin;
mod preemption;
mod probes;
mod slot;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: aya's programs are compiled so that no panic is reachable; the
    // linker drops this.
    unsafe { core::hint::unreachable_unchecked() }
}
