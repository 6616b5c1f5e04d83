//! The connections of all addresses: at most `max_connections`. When there are so many, one of them makes
//! room for the next: one that has shown no credentials yet, else one without a request, else one whose
//! request takes long to arrive; of the peer with the most of that kind, the oldest. So those who only hold
//! connections open keep nobody out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use wattrace_ingest::RateLimit;

/// From when on a request that is still arriving takes long.
const SLOW: Duration = Duration::from_secs(5);

/// All connections.
#[derive(Debug)]
pub(crate) struct Seats {
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seats: HashMap<u64, Taken>,
    last: u64,
    log_limit: RateLimit,
}

#[derive(Debug)]
struct Taken {
    seat: Arc<Seat>,
    /// `None`: its task has not begun.
    task: Option<AbortHandle>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Seat {
    number: u64,
    peer: IpAddr,
    /// Whether a request with the right credentials has come.
    proven: AtomicBool,
    /// Requests that are being received or answered.
    requests: AtomicU32,
    /// When the last request began or ended, or the connection came.
    since: Mutex<Instant>,
}

/// How easily a connection is given up; the first is given up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Unproven,
    Idle,
    Slow,
    Busy,
}

impl Seats {
    /// No connections; at most `most` at a time.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, inner: Mutex::default() })
    }

    /// Takes a seat for a connection from `peer`. If there is none, another connection is closed for it.
    /// `None`: all are receiving requests just now.
    pub(crate) fn take(&self, peer: IpAddr, now: Instant) -> Option<Arc<Seat>> {
        let mut inner = self.lock();
        if inner.seats.len() >= self.most {
            inner.make_room(now).then_some(())?;
        }
        inner.last += 1;
        let number = inner.last;
        let (proven, requests, since) = (AtomicBool::new(false), AtomicU32::new(0), Mutex::new(now));
        let seat = Arc::new(Seat { number, peer, proven, requests, since });
        inner.seats.insert(number, Taken { seat: seat.clone(), task: None });
        Some(seat)
    }

    /// The task that serves the connection of `seat`.
    pub(crate) fn seated(&self, seat: &Seat, task: AbortHandle) {
        if let Some(taken) = self.lock().seats.get_mut(&seat.number) {
            taken.task = Some(task);
        }
    }

    /// The connection has ended.
    pub(crate) fn leave(&self, seat: &Seat) {
        self.lock().seats.remove(&seat.number);
    }

    /// Closes the connection that is of the least use, since there are no descriptors. Returns whether there
    /// was one.
    pub(crate) fn make_room(&self, now: Instant) -> bool {
        self.lock().make_room(now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn make_room(&mut self, now: Instant) -> bool {
        let uses: Vec<_> = self.seats.values().map(|taken| (taken.seat.used(now), &taken.seat)).collect();
        let Some(least) = uses.iter().map(|(used, _)| *used).min().filter(|used| *used < Use::Busy) else {
            return false;
        };
        let of_least = || uses.iter().filter(|(used, _)| *used == least).map(|(_, seat)| seat);
        let mut per_peer = HashMap::<_, u32>::new();
        of_least().for_each(|seat| *per_peer.entry(seat.peer).or_default() += 1);
        let chosen = of_least().max_by_key(|seat| (per_peer[&seat.peer], std::cmp::Reverse(seat.number)));
        let Some((number, peer)) = chosen.map(|seat| (seat.number, seat.peer)) else { return false };
        let task = self.seats.remove(&number).and_then(|taken| taken.task);
        task.into_iter().for_each(|task| task.abort());
        if let Some(suppressed) = self.log_limit.allow(now) {
            let what = match least {
                Use::Unproven => "had shown no credentials",
                Use::Idle => "was idle",
                Use::Slow | Use::Busy => "was slow",
            };
            tracing::warn!(
                "all connections are taken (max_connections, or the limit on open files): one from {peer} \
                 that {what} was closed for a new one ({suppressed} more were not logged)"
            );
        }
        true
    }
}

impl Seat {
    /// A request has come, with the right credentials.
    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether one has.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// A request begins; it ends when the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Request {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.touch();
        Request(self.clone())
    }

    fn touch(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn used(&self, now: Instant) -> Use {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.is_proven(), self.requests.load(Ordering::Relaxed)) {
            (false, _) => Use::Unproven,
            (true, 0) => Use::Idle,
            _ if now.saturating_duration_since(since) > SLOW => Use::Slow,
            _ => Use::Busy,
        }
    }
}

/// A request of a connection.
#[derive(Debug)]
pub(crate) struct Request(Arc<Seat>);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.touch();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// The peers' last bytes, in the order of arrival.
    fn seated(seats: &Seats) -> Vec<(u64, u8)> {
        let octet = |ip| match ip {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        let inner = seats.lock();
        let mut all: Vec<_> = inner.seats.values().map(|t| (t.seat.number, octet(t.seat.peer))).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn the_peer_with_the_most_idle_connections_makes_room() {
        let (seats, now) = (Seats::new(4), Instant::now());
        let good = seats.take(peer(1), now).unwrap();
        good.prove();
        let _request = good.begin();
        let alone = seats.take(peer(2), now).unwrap();
        for _ in 0..1000 {
            assert!(seats.take(peer(9), now).is_some());
        }
        assert_eq!(seated(&seats), [(1, 1), (2, 2), (1001, 9), (1002, 9)]);
        seats.leave(&alone);
        assert_eq!(seated(&seats).len(), 3);
    }

    #[test]
    fn unproven_connections_go_before_idle_ones_and_these_before_slow_ones() {
        let (seats, now) = (Seats::new(3), Instant::now());
        let [busy, idle, _unproven] = [1, 2, 3].map(|last| seats.take(peer(last), now).unwrap());
        [&busy, &idle].iter().for_each(|seat| seat.prove());
        let _request = busy.begin();
        let fourth = seats.take(peer(4), now).unwrap();
        assert_eq!(seated(&seats), [(1, 1), (2, 2), (4, 4)]);
        fourth.prove();
        let _another = fourth.begin();
        let fifth = seats.take(peer(5), now).unwrap();
        assert_eq!(seated(&seats), [(1, 1), (4, 4), (5, 5)]);
        fifth.prove();
        let _third = fifth.begin();
        assert!(seats.take(peer(6), now).is_none(), "all are receiving requests");
        assert!(seats.take(peer(6), now + SLOW + SECOND).is_some());
        assert_eq!(seated(&seats), [(4, 4), (5, 5), (6, 6)]);
    }
}
