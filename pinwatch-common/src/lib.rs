//! What pinwatch's BPF programs and its daemon share: the records, the fold that
//! turns pins into statistics, and the bounds of both.
//!
//! Integers and arrays only, `no_std`, no I/O and no clock. The one fold here is
//! compiled into the BPF programs, where it fills per-CPU cells, and into the
//! daemon, where it fills the same cells from recorded pins. Nothing here may
//! depend on a kernel version.
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod counter;
pub mod fold;
pub mod histogram;
pub mod listen;
mod opaque;
pub mod origin;
pub mod params;
pub mod record;
