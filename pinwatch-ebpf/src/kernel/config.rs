//! Configuration of the programs, as read-only data.

use pinwatch_common::program_config::ProgramConfig;

/// Written by user space before it loads the programs.
#[unsafe(no_mangle)]
// SAFETY: integers only.
pub static PROGRAM_CONFIG: ProgramConfig = unsafe { core::mem::zeroed() };
