//! Log lines of the BPF programs.

use std::io;

use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Writes the programs' log lines to the log as they arrive. Returns only on an error.
pub async fn pass_on(logger: EbpfLogger<&'static dyn log::Log>) -> io::Result<()> {
    // SAFETY: the logger's ring buffer owns its descriptor for as long as it lives.
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = logger?;
    loop {
        let mut ready = logger.readable_mut().await?;
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}
