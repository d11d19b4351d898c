//! Data shared by pinwatch's BPF programs and its daemon: records, the fold that turns pins into
//! statistics, and the bounds of both.
//!
//! Integers and arrays only: `no_std`, no I/O, no clock, no kernel version. The fold is compiled
//! into the BPF programs, where it fills per-CPU cells. The daemon compiles the same code and fills
//! the same cells from recorded pins.
#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs, unreachable_pub, clippy::too_many_lines)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod blocker;
pub mod branchless;
pub mod cause;
pub mod cells;
pub mod event_filter;
pub mod fold;
pub mod histogram;
pub mod hold;
pub mod holder;
pub mod limits;
pub mod loss;
pub mod origin;
pub mod place;
pub mod program_config;
pub mod record;
pub mod refusal;
pub mod verifier_hint;
pub mod weak;
