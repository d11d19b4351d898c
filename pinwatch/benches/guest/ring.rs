//! The ring buffer with one reader: its capacity, the speed of reading, and whether lost events are counted.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use nix::poll::{PollFd, PollFlags, poll};
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::Prefer;
use pinwatch::probe::table::wanted;
use pinwatch_common::event_filter::Listening;
use pinwatch_common::loss::Loss;

use super::hooks::attach_pinwatch;
use super::pins::{PinKind, Pins, now, print_figure};

/// Pins in the race.
const PINS: u64 = 100_000;
/// More events than the ring buffer holds.
const BURST: u64 = 8_000;
/// The daemon's reader polls like this too: at this interval, and when the kernel reports that the buffer
/// fills.
const POLL_MS: u8 = 100;

/// Makes failing pins as fast as possible while one reader runs. Fails unless every event is read or
/// counted as lost.
pub fn race(pins: &mut Pins) -> Result<()> {
    let mut live = attach_pinwatch(&Facts::gather(&wanted()), Prefer::Auto)?;
    let mut events = live.take_events()?;
    events.listen(&Listening::ALL)?;
    let done = AtomicBool::new(false);
    let start = now();
    let (read, took) = thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<u64> {
            // SAFETY: the ring buffer owns its descriptor and keeps it.
            let ring = unsafe { BorrowedFd::borrow_raw(events.as_raw_fd()) };
            let mut read = 0;
            loop {
                let last = done.load(Ordering::Acquire);
                read += events.by_ref().count() as u64;
                if last {
                    return Ok(read);
                }
                poll(&mut [PollFd::new(ring, PollFlags::POLLIN)], POLL_MS)?;
            }
        });
        let made = (0..PINS).try_for_each(|_| pins.fail());
        let took = now() - start;
        done.store(true, Ordering::Release);
        made?;
        anyhow::Ok((reader.join().expect("the reader does not panic")?, took))
    })?;
    let lost = live.state().lost(Loss::RingFull);
    let all: u64 = read + lost;
    ensure!(all == PINS, "{read} events read and {lost} lost of {PINS}");
    print_figure(
        "events a second, one reader",
        read * 1_000_000_000 / took,
        "",
    );
    print_figure("of those, lost and counted", lost, "");
    Ok(())
}

/// Makes more events than the ring buffer holds, then reads it. Fails unless every event is read or counted
/// as lost.
pub fn burst(pins: &mut Pins) -> Result<()> {
    let mut live = attach_pinwatch(&Facts::gather(&wanted()), Prefer::Auto)?;
    let mut events = live.take_events()?;
    events.listen(&Listening::ALL)?;
    for _ in 0..BURST {
        pins.time(PinKind::One)?;
    }
    let start = now();
    let read = events.by_ref().count() as u64;
    let took = now() - start;
    let lost = live.state().lost(Loss::RingFull);
    ensure!(
        read + lost == BURST,
        "{read} events read and {lost} lost of {BURST}"
    );
    print_figure("events that the ring buffer holds", read, "");
    print_figure("time to read one of them", took / read, "ns");
    print_figure("events lost without being counted", BURST - read - lost, "");
    Ok(())
}
