//! Why the source cannot be used.

use thiserror::Error;

/// Why the kernel cannot be watched.
#[derive(Debug, Error)]
pub enum LiveError {
    #[error("this kernel cannot be watched: {}", .0.join("; "))]
    Unusable(Vec<String>),
    #[error("cannot load the BPF object: {0}")]
    Load(#[from] aya::EbpfError),
    #[error("cannot find the kernel function {0} in the kernel's BTF: {1}")]
    Kfunc(&'static str, aya::BtfError),
    #[error("cannot attach {program} to {target}: {reason}")]
    Attach {
        program: &'static str,
        target: &'static str,
        reason: String,
    },
    #[error("the BPF object has no map {0}")]
    NoMap(&'static str),
    #[error("cannot use the map {0}: {1}")]
    Map(&'static str, String),
    #[error("cannot read how many CPUs there are: {0}")]
    Cpus(String),
}
