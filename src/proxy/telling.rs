//! A request that has ended: counted in its pool, and told to the observers, once.

use std::net::IpAddr;
use std::thread;
use std::time::Instant;

use log::{debug, error};
use pingora::Error;

use super::context::RequestContext;
use super::failure;
use super::request_id::RequestId;
use super::site::Site;
use crate::message::RequestView;
use crate::pool::Failure;
use crate::record::{Ending, Reason, Record, Summary, Told};

/// What passed between the client and us.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed<'a> {
    pub(crate) request: RequestView<'a>,
    /// Whether the connection is encrypted.
    pub(crate) tls: bool,
    /// The status that the client has got, if any.
    pub(crate) status: Option<u16>,
    /// Bytes of the request's body.
    pub(crate) received: u64,
    /// Bytes of the answer's body.
    pub(crate) sent: u64,
}

impl RequestContext {
    /// Notes how the running attempt ended, unless that is known.
    pub(crate) fn end_attempt(&mut self, reason: Reason) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.end(reason);
        }
    }

    /// How the last attempt failed, if it did.
    fn last_failure(&self) -> Option<Failure> {
        match self.attempts.last()?.reason {
            Reason::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// The status that the client has got from a request whose session is lost.
    fn status_left(&self) -> Option<u16> {
        let gate = self.gate.as_ref()?;
        match gate.has_sent() {
            true => self.attempts.last()?.status,
            // What the guard answers.
            false => thread::panicking().then_some(500),
        }
    }

    /// Counts the request in its pool and tells the observers, once.
    pub(crate) fn tell(&mut self, passed: Option<Passed<'_>>, error: Option<&Error>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let ending = match (self.refused, error, passed) {
            (Some(ending), _, _) => ending,
            _ if self.left => Ending::ClientGone,
            (None, Some(error), _) => failure::ending(error, self.last_failure()),
            (None, None, Some(_)) => Ending::Complete,
            (None, None, None) => Ending::Internal,
        };
        self.end_attempt(match ending {
            Ending::Complete => Reason::Ok,
            Ending::Internal => Reason::Internal,
            _ => Reason::Client,
        });
        let status = match passed {
            Some(passed) => passed.status,
            None => self.status_left(),
        };
        let record = Record {
            request: passed.map(|passed| passed.request),
            summary: Summary {
                client: self.origin.map(|origin| origin.client),
                tls: passed.is_some_and(|passed| passed.tls),
                version: passed.map(|passed| passed.request.version),
                began: self.began,
                took: self.began.elapsed(),
                queued: self.queued,
                status,
                received: passed.map_or(0, |passed| passed.received),
                sent: passed.map_or(0, |passed| passed.sent),
                ending,
                trace: self.trace,
            },
            pool: self.routed.then(|| (self.pool, self.pool())),
            attempts: &self.attempts,
            id: self.id.as_ref().map(RequestId::as_bytes),
        };
        if let Some((_, pool)) = record.pool {
            pool.tally().count();
            if record.summary.is_failure() {
                pool.tally().count_error();
            }
        }
        debug!("{}", Told(&record));
        for observer in &self.site.observers {
            observer.ended(&record);
        }
    }
}

/// Tells the observers of `site` of a request that the proxy never had: by whom and over TLS or not, when it began, and the
/// status and the bytes of a body that the client got for it.
pub(crate) fn tell_headless(
    site: &Site,
    (client, tls): (Option<IpAddr>, bool),
    began: Instant,
    status: Option<u16>,
    sent: usize,
    ending: Ending,
) {
    let record = Record::headless(began, client, tls, status, sent as u64, ending);
    debug!("{}", Told(&record));
    for observer in &site.observers {
        observer.ended(&record);
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        // A panic, or the end of a connection in the midst of it, leaves no session.
        self.tell(None, None);
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
