//! The system calls that pin, one file each, behind the trait [`Pinner`].

mod io_uring;
mod rdma;
mod short_term;
mod udmabuf;
mod vfio;
mod xdp;

use nix::errno::Errno;

use crate::host::device::DeviceLease;
use crate::memory::buffer::Buffer;
use crate::plan::Plan;
use crate::spec::Via;
use crate::sys;

/// One system call that pins: its result, and `CLOCK_MONOTONIC` in nanoseconds right before and after it.
pub struct Attempt {
    pub result: Result<(), Errno>,
    pub started_ns: u64,
    pub ended_ns: u64,
}

impl Attempt {
    fn time<T>(call: impl FnOnce() -> Result<T, Errno>) -> (Self, Option<T>) {
        let started_ns = sys::monotonic_ns();
        let outcome = call();
        let ended_ns = sys::monotonic_ns();
        let attempt = Self {
            result: outcome.as_ref().map(drop).map_err(|errno| *errno),
            started_ns,
            ended_ns,
        };
        (attempt, outcome.ok())
    }
}

/// Makes the pins of one thread, one at a time.
pub trait Pinner: Send {
    /// Pins the buffer. The attempt has the kernel's answer; an error is one of the load itself.
    ///
    /// The pin refers to the pages of the buffer: call [`unpin`](Self::unpin) before the buffer is dropped.
    fn pin(&mut self, buffer: &Buffer) -> anyhow::Result<Attempt>;

    /// Releases the pin of the last attempt, if there is one.
    fn unpin(&mut self) -> anyhow::Result<()>;
}

/// Opens the pinner of a plan. The error has the reason if this machine has none.
pub fn open(plan: &Plan, device: &DeviceLease) -> anyhow::Result<Box<dyn Pinner>> {
    Ok(match plan.via {
        Via::IoUring => Box::new(io_uring::Ring::open()?),
        Via::Xdp => Box::new(xdp::Umem::open()?),
        Via::Udmabuf => Box::new(udmabuf::Device::open(plan.pages())?),
        Via::Vfio => Box::new(vfio::Container::open(device.pci()?)?),
        Via::Rdma => Box::new(rdma::Verbs::open(device.rdma()?)?),
        Via::Odirect => Box::new(short_term::DirectRead::open(plan)?),
        Via::ProcessVm => Box::new(short_term::ReadOwnMemory::default()),
    })
}

/// Long-term pins that the kernel makes for one range if none of them fails.
pub fn expected_pins(via: Via, pages: usize) -> u64 {
    match via {
        Via::IoUring => pages.div_ceil(io_uring::PAGES_PER_PIN) as u64,
        Via::Xdp | Via::Udmabuf => 1,
        Via::Vfio => pages.div_ceil(*vfio::PAGES_PER_PIN) as u64,
        Via::Rdma => pages.div_ceil(rdma::PAGES_PER_PIN) as u64,
        Via::Odirect | Via::ProcessVm => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_timed_around_its_call() {
        let before = sys::monotonic_ns();
        let (attempt, inside) = Attempt::time(|| Ok(sys::monotonic_ns()));
        let after = sys::monotonic_ns();
        let inside = inside.unwrap();
        let times = [before, attempt.started_ns, inside, attempt.ended_ns, after];
        assert!(times.is_sorted(), "{times:?}");

        let (failed, nothing) = Attempt::time(|| Err::<(), _>(Errno::ENOMEM));
        assert_eq!((failed.result, nothing), (Err(Errno::ENOMEM), None));
        assert!(failed.started_ns <= failed.ended_ns);
    }
}
