//! Errors of the running kernel as a source.
#![forbid(unsafe_code)]

use thiserror::Error;

/// Failure to load or attach the programs, or to read their memory.
#[derive(Debug, Error)]
pub enum LiveError {
    #[error("this kernel cannot be watched: {}", .0.join("; "))]
    Unusable(Vec<String>),
    #[error("pinwatch cannot load the BPF object; `pinwatch check` lists the obstacles: {0}")]
    Load(#[from] aya::EbpfError),
    #[error("the kernel's BTF has no function {0}, which the BPF programs call")]
    Kfunc(&'static str),
    #[error(
        "cannot attach the BPF program {program} to {target}, without which no pin is measured: {reason}"
    )]
    Attach {
        program: &'static str,
        target: &'static str,
        reason: String,
    },
    #[error("the BPF object has no map {0}: build pinwatch again")]
    NoMap(&'static str),
    #[error("pinwatch cannot use the BPF map {0}: {1}")]
    Map(&'static str, String),
    #[error("cannot read the number of possible CPUs: {0}")]
    Cpus(String),
}
