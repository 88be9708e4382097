//! What is known of one request from phase to phase.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http::HeaderValue;
use log::error;
use pingora::proxy::Session;

use super::forwarded::Origin;
use super::key::{self, AddressText};
use super::site::Site;
use super::traffic::Presence;
use crate::balancer::{BalancerError, HostId, Lease, Selection};
use crate::config::KeySource;
use crate::pool::Pool;

/// One request. Dropping it ends every count that the request holds, so it does not matter how the request ends.
#[derive(Debug)]
pub struct RequestContext {
    pub(super) presence: Presence,
    pub(super) site: Arc<Site>,
    /// Index into the site's pools; set by the route.
    pub(super) pool: usize,
    /// `None` before the request filter, and for connections without an IP address.
    pub(super) origin: Option<Origin>,
    /// The id that all attempts share.
    pub(super) id: Option<HeaderValue>,
    /// Attempts made.
    pub(super) attempts: usize,
    /// Hosts that failed this request.
    pub(super) tried: Vec<HostId>,
    /// The host of the running attempt.
    pub(super) lease: Option<Lease>,
    /// When the running attempt began, or when the client had sent it all.
    pub(super) started: Instant,
    /// The head of the host's answer in the running attempt.
    pub(super) head: Option<Head>,
    /// How long the client had been waited for when the request's body began.
    pub(super) waited: Duration,
    /// Bytes of the request's body that the running attempt has got.
    pub(super) body: u64,
}

/// The head of a host's answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// From the begin of the attempt.
    pub(super) after: Duration,
    /// Not a 5xx.
    pub(super) good: bool,
}

impl RequestContext {
    pub(super) fn new(site: Arc<Site>, presence: Presence) -> Self {
        RequestContext {
            presence,
            site,
            pool: 0,
            origin: None,
            id: None,
            attempts: 0,
            tried: Vec::new(),
            lease: None,
            started: Instant::now(),
            head: None,
            waited: Duration::ZERO,
            body: 0,
        }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.site.pools[self.pool]
    }

    /// Leases a host for the next attempt: one that has not failed this request while there is such a one.
    pub(super) fn lease_host(&mut self, session: &Session) -> Result<(), BalancerError> {
        let client = self.origin.map(|origin| origin.client);
        let mut selection = Selection::new().tried(&self.tried);
        if let Some(client) = client {
            selection = selection.client(client);
        }
        let text;
        if let Some(source) = self.pool().key() {
            text = match source {
                KeySource::ClientIp => client.map(AddressText::new),
                _ => None,
            };
            if let Some(key) = key::of(source, session.req_header(), text.as_ref()) {
                selection = selection.key(key);
            }
        }
        self.lease = Some(self.pool().lease(&selection)?);
        Ok(())
    }

    /// Ends the attempt as the host's failure.
    pub(super) fn fail(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.observe(self.started.elapsed(), false);
        }
    }

    /// Ends the attempt. What the host answered, if anything, is taken in.
    pub(super) fn finish(&mut self) {
        if let (Some(lease), Some(head)) = (self.lease.take(), self.head) {
            lease.observe(head.after, head.good);
        }
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        if thread::panicking() {
            let id = self
                .id
                .as_ref()
                .map_or("none yet".into(), |id| format!("{id:?}"));
            let count = self.presence.note_panic();
            error!("a panic ended a request (id: {id}); panics so far: {count}");
        }
    }
}
