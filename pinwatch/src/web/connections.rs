//! The open connections. A client that sends no request gives way to one that does, and no address can take
//! all places.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

use super::limits::Limits;

/// Table of the open connections.
pub struct Connections {
    limits: Limits,
    open: Mutex<Vec<Arc<Entry>>>,
}

struct Entry {
    /// Clients of one network count as one: see [`network`].
    network: IpAddr,
    phase: Mutex<Phase>,
    gives_way: Notify,
}

#[derive(Clone, Copy)]
enum Phase {
    /// The server waits for a request, or for the rest of one.
    Waiting { since: Instant },
    /// A response is made or sent.
    Answering,
    /// The response is complete, but part of it may not have reached the kernel.
    Flushing,
}

impl Connections {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: Mutex::default(),
        }
    }

    /// Admits a connection. If there are too many, the one that has waited longest for a request gives way: one of
    /// the same network if that has too many, else one of the network with the most. `None` if all of those are
    /// being answered: the new connection is to be closed.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Connection> {
        let network = network(address);
        let mut open = self.open();
        let of = |open: &[Arc<Entry>], network| {
            let same = open.iter().filter(|entry| entry.network == network);
            same.count()
        };
        let crowded = if of(&open, network) >= self.limits.connections_per_address {
            Some(network)
        } else if open.len() >= self.limits.connections {
            let waiting = open
                .iter()
                .filter(|entry| entry.waiting_since().is_some())
                .map(|entry| entry.network);
            Some(waiting.max_by_key(|network| of(&open, *network))?)
        } else {
            None
        };
        if let Some(crowded) = crowded {
            let waiting = open.iter().enumerate().filter_map(|(n, entry)| {
                let since = entry.waiting_since()?;
                (entry.network == crowded).then_some((since, n))
            });
            let (_, oldest) = waiting.min()?;
            // The new connection has its place already, before the task of the old one ends.
            open.swap_remove(oldest).gives_way.notify_one();
        }
        let entry = Arc::new(Entry {
            network,
            phase: Mutex::new(Phase::Waiting {
                since: Instant::now(),
            }),
            gives_way: Notify::new(),
        });
        open.push(Arc::clone(&entry));
        Some(Connection {
            table: Arc::clone(self),
            entry,
        })
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting_since(&self) -> Option<Instant> {
        match *self.phase() {
            Phase::Waiting { since } => Some(since),
            Phase::Answering | Phase::Flushing => None,
        }
    }
}

/// An open connection. Dropping it frees its place.
pub struct Connection {
    table: Arc<Connections>,
    entry: Arc<Entry>,
}

impl Connection {
    /// Waits until the connection has to give way to another one.
    pub async fn gives_way(&self) {
        self.entry.gives_way.notified().await;
    }

    /// Whether the server waits for a request, or for the rest of one.
    pub fn is_waiting(&self) -> bool {
        self.entry.waiting_since().is_some()
    }

    /// Begins a response. `false` if too many are being sent, to everyone or to this network: the answer is
    /// then to be a short one.
    pub fn begin(&self) -> bool {
        let limits = self.table.limits;
        let open = self.table.open();
        let answering = open.iter().filter(|entry| entry.waiting_since().is_none());
        let (mut all, mut same) = (0, 0);
        for entry in answering {
            all += 1;
            same += usize::from(entry.network == self.entry.network);
        }
        let begins = all < limits.answers && same < limits.answers_per_address;
        if begins {
            *self.entry.phase() = Phase::Answering;
        }
        begins
    }

    /// Notes that everything written so far has reached the kernel.
    pub fn flushed(&self) {
        let mut phase = self.entry.phase();
        if let Phase::Flushing = *phase {
            *phase = Phase::Waiting {
                since: Instant::now(),
            };
        }
    }

    fn complete(&self) {
        let mut phase = self.entry.phase();
        if let Phase::Answering = *phase {
            *phase = Phase::Flushing;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.table.open();
        open.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
    }
}

/// A response's body that notes its end, however it ends.
pub struct Noted<B> {
    body: B,
    connection: Arc<Connection>,
}

impl<B> Noted<B> {
    #[must_use]
    pub fn new(body: B, connection: Arc<Connection>) -> Self {
        Self { body, connection }
    }
}

impl<B> Drop for Noted<B> {
    fn drop(&mut self) {
        self.connection.complete();
    }
}

impl<B: Body + Unpin> Body for Noted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The addresses that one client can choose from count as one: a /64 of IPv6, and all of 127.0.0.0/8.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Arc<Connections> {
        Arc::new(Connections::new(Limits {
            connections: 4,
            connections_per_address: 3,
            answers: 3,
            answers_per_address: 2,
            ..Limits::DEFAULT
        }))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Whether a connection has been told to give way.
    async fn told(connection: &Connection) -> bool {
        tokio::select! {
            biased;
            () = connection.gives_way() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn the_one_that_waits_longest_gives_way() {
        let (table, own) = (table(), address("192.0.2.1"));
        let [first, second, third] = [(); 3].map(|()| table.admit(own).expect("room"));
        assert!(first.begin(), "it is being answered");
        let other = table.admit(address("192.0.2.2")).expect("room");
        let fourth = table.admit(own).expect("the second gives way");
        assert!(told(&second).await);
        for stays in [&first, &third, &fourth, &other] {
            assert!(!told(stays).await);
        }
        drop(second);
        // The table is full: the network with the most connections has to make room.
        let stranger = table
            .admit(address("192.0.2.3"))
            .expect("the third gives way");
        assert!(told(&third).await && !told(&other).await && !told(&stranger).await);
    }

    #[test]
    fn connections_that_are_answered_stay() {
        let (table, own) = (table(), address("192.0.2.1"));
        let open: Vec<_> = (0..3).map(|_| table.admit(own).expect("room")).collect();
        let begun: Vec<_> = open.iter().map(Connection::begin).collect();
        assert_eq!(begun, [true, true, false], "two answers for one network");
        let other = table.admit(address("192.0.2.2")).expect("room");
        assert!(other.begin());
        assert!(!other.begin(), "three answers for everyone");
        drop(table.admit(own).expect("the third gives way"));
        other.complete();
        assert!(other.entry.waiting_since().is_none(), "not flushed yet");
        other.flushed();
        assert!(other.entry.waiting_since().is_some());
    }

    #[test]
    fn addresses_of_one_client_count_as_one() {
        for (one, other, same) in [
            ("127.0.0.1", "127.9.9.9", true),
            ("127.0.0.1", "::ffff:127.0.0.2", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            let is = network(address(one)) == network(address(other));
            assert_eq!(is, same, "{one} {other}");
        }
    }
}
