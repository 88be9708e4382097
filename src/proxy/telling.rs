//! A request that has ended: counted in its pool, and told to the observers, once.

use std::thread;

use http::StatusCode;
use log::{debug, error};
use pingora::Error;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::context::RequestContext;
use super::{failure, is_over_tls};
use crate::pool::Failure;
use crate::record::{Ending, Reason, Record, Summary, Told};

impl RequestContext {
    /// Notes how the running attempt ended, unless that is known.
    pub(super) fn end_attempt(&mut self, reason: Reason) {
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
    pub(super) fn tell(&mut self, session: Option<&Session>, error: Option<&Error>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let ending = match (self.refused, error, session) {
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
        let final_head = |head: &&ResponseHeader| {
            !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
        };
        let status = match session {
            Some(session) => {
                let head = session.response_written().filter(final_head);
                head.map(|head| head.status.as_u16())
            }
            None => self.status_left(),
        };
        let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let request = session.map(|session| session.req_header());
        let record = Record {
            request,
            summary: Summary {
                client: self.origin.map(|origin| origin.client),
                tls: session.is_some_and(is_over_tls),
                version: request.map(|request| request.version),
                began: self.began,
                took: self.began.elapsed(),
                queued: self.queued,
                status,
                received: session.map_or(0, |session| bytes(session.body_bytes_read())),
                sent: session.map_or(0, |session| bytes(session.body_bytes_sent())),
                ending,
                trace: self.trace,
            },
            pool: self.routed.then(|| (self.pool, self.pool())),
            attempts: &self.attempts,
            id: self.id.as_ref(),
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
