//! Counts of the requests in flight in the process, and its draining flag.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes by which the receive windows of all HTTP/2 connections may grow in total, beyond the initial window of each.
pub(crate) const UPLOAD_WINDOW_BUDGET: u64 = 256 << 20;

/// Request counts of the whole process.
#[derive(Debug)]
pub struct TrafficState {
    /// Requests whose head has been read and which have not ended.
    present: AtomicU64,
    /// Those of them that were admitted, and so may hold a connection to a host.
    admitted: AtomicU64,
    /// Upper bound of `admitted`: each admitted request may need a file descriptor.
    admission_limit: u64,
    /// Bytes by which the receive windows of HTTP/2 may still grow, over all connections.
    upload_budget: AtomicU64,
    draining: AtomicBool,
    /// Requests that have become tunnels.
    tunnels: AtomicU64,
    /// Requests that ended in a panic.
    panics: AtomicU64,
}

impl Default for TrafficState {
    fn default() -> Self {
        TrafficState::with_limit(u64::MAX)
    }
}

impl TrafficState {
    /// Admits at most `requests` at once, the number of file descriptors available for connections to hosts.
    pub fn with_limit(requests: u64) -> Self {
        TrafficState {
            present: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            admission_limit: requests,
            upload_budget: AtomicU64::new(UPLOAD_WINDOW_BUDGET),
            draining: AtomicBool::new(false),
            tunnels: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        }
    }

    /// How many streams one HTTP/2 connection may have open: a quarter of the process's limit, so that no single client
    /// can use all of it.
    pub(crate) fn max_streams_per_connection(&self) -> u64 {
        (self.admission_limit / 4).max(1)
    }

    /// Takes `bytes` from the budget of upload windows. `false`: the budget does not suffice.
    pub(crate) fn reserve_upload(&self, bytes: u64) -> bool {
        self.upload_budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |remaining| {
                remaining.checked_sub(bytes)
            })
            .is_ok()
    }

    /// Returns bytes that were [reserved](Self::reserve_upload) to the budget.
    pub(crate) fn release_upload(&self, bytes: u64) {
        self.upload_budget.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Requests in flight, including those that were refused.
    pub fn present(&self) -> u64 {
        self.present.load(Ordering::SeqCst)
    }

    /// Those of the requests in flight that have become tunnels, such as WebSockets.
    pub fn tunnels(&self) -> u64 {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Requests that ended in a panic since the process started.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// While draining, every response tells the client to close the connection.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::SeqCst);
    }

    /// Whether the process is draining: every response then tells the client to close the connection.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Counts a request until the returned guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> InFlightGuard {
        self.present.fetch_add(1, Ordering::SeqCst);
        InFlightGuard {
            traffic: Arc::clone(self),
            admitted: false,
            route: None,
            is_tunnel: false,
        }
    }
}

/// One request in flight. Dropping it ends its counts.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    traffic: Arc<TrafficState>,
    admitted: bool,
    /// The count of its route, if the request holds one of the route's slots.
    route: Option<Arc<AtomicU64>>,
    is_tunnel: bool,
}

/// The requests of one route that may be in flight at the same time.
#[derive(Debug, Clone)]
pub(crate) struct RouteSlots {
    /// Requests that hold a slot. Shared with the same route of the configuration before.
    taken: Arc<AtomicU64>,
    limit: u64,
}

impl RouteSlots {
    /// `limit` slots, all of them free.
    pub(crate) fn new(limit: u64) -> Self {
        RouteSlots {
            taken: Arc::default(),
            limit,
        }
    }

    /// Takes over the requests in flight of the same route in the configuration before.
    pub(crate) fn continue_from(&mut self, before: &RouteSlots) {
        self.taken = Arc::clone(&before.taken);
    }
}

impl InFlightGuard {
    /// Takes one of `limit` slots, or of the slots that the file descriptors allow if those are fewer. `false`: all
    /// slots are taken.
    pub(crate) fn admit(&mut self, limit: Option<u64>) -> bool {
        let limit = limit.unwrap_or(u64::MAX).min(self.traffic.admission_limit);
        self.admitted = take_slot(&self.traffic.admitted, limit);
        self.admitted
    }

    /// Takes one of the slots of the request's route. `false`: all slots are taken.
    pub(crate) fn admit_to_route(&mut self, slots: &RouteSlots) -> bool {
        let admitted = take_slot(&slots.taken, slots.limit);
        if admitted {
            self.route = Some(Arc::clone(&slots.taken));
        }
        admitted
    }

    /// Releases the slots early, once the host has sent the whole response and only the client still has to read it. A
    /// client that has read it may send its next request at once, and must find the slots free.
    pub(crate) fn release_slot(&mut self) {
        if std::mem::take(&mut self.admitted) {
            self.traffic.admitted.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(taken) = self.route.take() {
            taken.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts the request as a tunnel, too, until it ends.
    pub(crate) fn begin_tunnel(&mut self) {
        if !std::mem::replace(&mut self.is_tunnel, true) {
            self.traffic.tunnels.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a panic and returns the new total.
    pub(crate) fn note_panic(&self) -> u64 {
        self.traffic.panics.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.traffic.is_draining()
    }
}

/// Adds one to `taken` unless it has reached `limit`.
fn take_slot(taken: &AtomicU64, limit: u64) -> bool {
    taken
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            (taken < limit).then_some(taken + 1)
        })
        .is_ok()
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.release_slot();
        if self.is_tunnel {
            self.traffic.tunnels.fetch_sub(1, Ordering::Relaxed);
        }
        self.traffic.present.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_limited_and_released() {
        let traffic = Arc::new(TrafficState::default());
        let mut first = traffic.enter();
        let mut second = traffic.enter();
        assert!(first.admit(Some(1)));
        assert!(!second.admit(Some(1)));
        first.release_slot();
        assert!(second.admit(Some(1)));
        assert_eq!(traffic.present(), 2);
        drop(first);
        assert!(!traffic.enter().admit(Some(1)));
        assert_eq!(traffic.present(), 1);
        drop(second);
        assert_eq!(traffic.present(), 0);
    }

    #[test]
    fn a_tunnel_is_counted_once_and_until_it_ends() {
        let traffic = Arc::new(TrafficState::default());
        let (mut tunnel, _other) = (traffic.enter(), traffic.enter());
        tunnel.begin_tunnel();
        tunnel.begin_tunnel();
        assert_eq!((traffic.present(), traffic.tunnels()), (2, 1));
        drop(tunnel);
        assert_eq!((traffic.present(), traffic.tunnels()), (1, 0));
    }

    #[test]
    fn the_slots_of_a_route_outlive_its_configuration() {
        let traffic = Arc::new(TrafficState::default());
        let old = RouteSlots::new(1);
        let mut first = traffic.enter();
        assert!(first.admit_to_route(&old));
        let mut new = RouteSlots::new(2);
        new.continue_from(&old);
        let (mut second, mut third) = (traffic.enter(), traffic.enter());
        assert!(second.admit_to_route(&new));
        assert!(!third.admit_to_route(&new));
        first.release_slot();
        drop(first);
        assert!(third.admit_to_route(&new));
    }

    #[test]
    fn slots_are_limited_by_file_descriptors() {
        let traffic = Arc::new(TrafficState::with_limit(2));
        let mut requests = [traffic.enter(), traffic.enter(), traffic.enter()];
        assert_eq!(
            requests.each_mut().map(|one| one.admit(None)),
            [true, true, false]
        );
        assert_eq!(traffic.max_streams_per_connection(), 1);
    }
}
