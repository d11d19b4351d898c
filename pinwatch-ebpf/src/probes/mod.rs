//! Entries of all BPF programs, one file per step of the kernel's path.

mod gup_fast;
mod hold;
mod isolate;
mod memfd;
mod migrate;
mod pass;
mod pin;
mod programs;
mod putback;
mod refusal;
mod stack;
mod thread;
mod weak;
