//! What each target does with an input. The programs in `fuzz_targets` only name one of these.
#![forbid(unsafe_code)]

pub mod btf;
pub mod cgroup;
pub mod daemon;
pub mod extremes;
pub mod facts;
pub mod filter;
pub mod http;
pub mod kallsyms;
pub mod procfs;
pub mod recording;
pub mod tracefs;
pub mod web_config;
