//! The BPF programs' own diagnostics.

use std::io;

use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Writes them to the log as they come, for ever.
pub async fn pass_on(logger: EbpfLogger<&'static dyn log::Log>) -> io::Result<()> {
    // SAFETY: the ring buffer owns its descriptor and keeps it for its life.
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = logger?;
    loop {
        let mut ready = logger.readable_mut().await?;
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}
