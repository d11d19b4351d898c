//! The served file, and the two threads that serve it: one answers requests, the other stores pages and sends late answers.
//!
//! Both threads share a table of descriptors of their own: `mount::separate_descriptors` says why. A pin can wait for them in
//! the kernel with the mmap lock. So they start before it and end after it, and map nothing meanwhile.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use nix::unistd::gettid;

use super::mount::{mount, separate_descriptors};
use super::server::{Gate, serve, store};
use crate::memory::mapping::Mapping;

/// An open file. Fields drop in order: the threads end when the file is closed and unmapped.
pub struct ServedFile {
    pub file: File,
    orders: Sender<Order>,
    gate: Arc<Gate>,
    _threads: Threads,
}

/// The two threads, joined when dropped. Their ends need the mmap lock, with which a later pin can wait for its server.
struct Threads(Option<JoinHandle<()>>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// What the second thread does. It reports the end on the channel, or drops it.
enum Order {
    /// The first page is locked from the first fault of the data until that fault is answered.
    Store(Mapping, Sender<()>),
    OpenGate(Sender<()>),
}

impl ServedFile {
    pub fn new(content: Vec<u8>) -> anyhow::Result<Self> {
        let size = content.len() as u64;
        let gate = Arc::<Gate>::default();
        let shared = gate.clone();
        let (orders, receiver) = mpsc::channel();
        let (mounted, is_mounted) = mpsc::channel();
        let thread = thread::spawn(move || {
            let made = separate_descriptors()
                .context("cannot separate the descriptors of the FUSE server")
                .and_then(|()| mount());
            match made {
                Err(error) => _ = mounted.send(Err(error)),
                Ok((device, root)) => thread::scope(|scope| {
                    let path = format!("/proc/self/task/{}/fd/{}", gettid(), root.as_raw_fd());
                    let (device, gate) = (&device, &*shared);
                    scope.spawn(move || {
                        // Both threads have started: from now on neither needs the mmap lock for writing.
                        let _ = mounted.send(Ok(path));
                        obey(&receiver, device, root, gate);
                    });
                    serve(device, content, gate);
                }),
            }
        });
        let opened = is_mounted
            .recv()
            .context("the FUSE server has ended")
            .flatten()
            .and_then(|path| {
                let file = File::options().read(true).write(true).open(path);
                file.context("cannot open the file of the FUSE server")
            });
        let threads = Threads(Some(thread));
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                // Before the threads are joined.
                drop(orders);
                return Err(error);
            }
        };
        let served = Self {
            file,
            orders,
            gate,
            _threads: threads,
        };
        // The kernel asks for the size.
        let len = served.file.metadata()?.len();
        anyhow::ensure!(
            len == size,
            "the served file has {len} bytes instead of {size}"
        );
        Ok(served)
    }

    /// Stores this page in the first page of the file. The receiver hears of the end.
    pub fn store(&self, data: Mapping) -> Receiver<()> {
        let (done, is_done) = mpsc::channel();
        let _ = self.orders.send(Order::Store(data, done));
        is_done
    }

    /// Writes pages and holds the answers back, so that the pages stay under writeback. Returns once the kernel has sent
    /// the first write.
    pub fn hold_writes(
        &self,
        write: impl FnOnce() -> nix::Result<()>,
    ) -> anyhow::Result<HeldWrites> {
        self.gate.shut();
        let held = HeldWrites(self.orders.clone());
        write().context("cannot write the pages of the served file")?;
        anyhow::ensure!(
            self.gate.holds_an_answer(),
            "the kernel wrote no page of the served file"
        );
        Ok(held)
    }
}

/// Writes without an answer. Dropping it answers them.
pub struct HeldWrites(Sender<Order>);

impl Drop for HeldWrites {
    fn drop(&mut self) {
        let (done, is_done) = mpsc::channel();
        let _ = self.0.send(Order::OpenGate(done));
        // An error: the thread has ended, and the kernel has given the writes up.
        let _ = is_done.recv();
    }
}

/// Runs until the file is dropped. The mount lasts until then.
fn obey(orders: &Receiver<Order>, device: &File, root: OwnedFd, gate: &Gate) {
    while let Ok(order) = orders.recv() {
        match order {
            Order::Store(data, done) => {
                let _ = store(device, &data);
                // Before the data is unmapped, which waits for the mmap lock.
                let _ = done.send(());
            }
            Order::OpenGate(done) => {
                gate.open(device);
                let _ = done.send(());
            }
        }
    }
    drop(root);
}
