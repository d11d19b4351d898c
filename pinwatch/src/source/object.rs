//! The BPF object, loaded with the read-only data of a plan. Its programs are not loaded yet.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use aya::{Ebpf, EbpfLoader};
use bytemuck::bytes_of;
use pinwatch_common::abi::{ABI_SYMBOL, ABI_VERSION, CAST};
use pinwatch_common::limits::SLOTS;
use pinwatch_common::program_config::{PROGRAM_CONFIG_SYMBOL, ProgramConfig};
use pinwatch_common::weak::WEAK_FOLIOS;

use super::error::LiveError;
use super::kfuncs::{self, OBJECT};
use crate::host::heap;
use crate::probe::plan::Globals;

/// The object for this kernel.
///
/// `ids` are the BTF ids of [`KFUNCS`](pinwatch_common::abi::KFUNCS). `casts`: programs read memory by loads.
pub fn resolved(
    globals: &Globals,
    ids: &BTreeMap<String, u32>,
    casts: bool,
) -> Result<Vec<u64>, LiveError> {
    let is_wanted = |name: &str| match name {
        CAST => casts,
        _ => globals.can_disable_preemption,
    };
    let object = kfuncs::resolve(OBJECT, ids, is_wanted);
    heap::forget(OBJECT);
    object
}

/// Makes the maps of a [`resolved`] object, and sets its read-only data.
pub fn load(
    object: &[u64],
    globals: &Globals,
    config: &ProgramConfig,
    log_level: u8,
) -> Result<Ebpf, LiveError> {
    raise_limits();
    let cpus = possible_cpus()? as u32;
    let loaded = loader()
        .override_global(ABI_SYMBOL, &ABI_VERSION, true)
        .override_global(PROGRAM_CONFIG_SYMBOL, bytes_of(config), true)
        .override_global(aya_log::LEVEL, &log_level, true)
        .map_max_entries("CELLS", cpus)
        .map_max_entries("RUNS", if globals.preempts { cpus } else { 1 })
        .map_max_entries("FAST", if globals.fast_path { SLOTS } else { 1 })
        .map_max_entries("WEAK", globals.weak.map_or(1, |_| WEAK_FOLIOS))
        .map_max_entries("WEAK_CALLS", globals.weak.map_or(1, |_| SLOTS))
        .load(bytemuck::cast_slice(object))?;
    Ok(loaded)
}

/// Raises the limits of locked memory and of descriptors. Before 5.11 maps count as locked memory. Each CPU
/// takes descriptors.
fn raise_limits() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!("pinwatch cannot raise RLIMIT_MEMLOCK: {error}");
    }
    let files = Resource::RLIMIT_NOFILE;
    let raised = getrlimit(files).and_then(|(_, hard)| setrlimit(files, hard, hard));
    if let Err(error) = raised {
        tracing::debug!("pinwatch cannot raise RLIMIT_NOFILE: {error}");
    }
}

/// aya's loader without the kernel's BTF.
///
/// Its constructor parses all BTF, at the cost that [`super::function_ids`] states, and ignores an error (a later
/// release reads BTF when it is used: <https://github.com/aya-rs/aya/issues/1172>). So no file can be
/// opened meanwhile; nothing else in the process opens one before the programs are attached.
fn loader() -> EbpfLoader<'static> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let files = Resource::RLIMIT_NOFILE;
    let limits = getrlimit(files).and_then(|(soft, hard)| {
        setrlimit(files, 0, hard)?;
        Ok((soft, hard))
    });
    let mut loader = EbpfLoader::new();
    if let Ok((soft, hard)) = limits {
        setrlimit(files, soft, hard).expect("the limit is the one from before");
    }
    loader.btf(None);
    loader
}

pub fn possible_cpus() -> Result<usize, LiveError> {
    aya::util::nr_cpus().map_err(|(path, error)| LiveError::Cpus(format!("{path}: {error}")))
}
