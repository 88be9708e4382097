//! The explanation of a pick.

use std::fmt;
use std::sync::Arc;

use super::error::BalancerError;
use super::host::{Host, HostId};

/// What [`Balancer::lease`](crate::Balancer::lease) would pick for a request, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The host that would be picked, or the error that the pick would return.
    pub outcome: Result<HostId, BalancerError>,
    /// All members, in the order in which the algorithm considers them.
    pub candidates: Vec<Candidate>,
}

/// A member of the balancer as a candidate of one pick.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The host.
    pub host: Arc<Host>,
    /// Requests in flight on it.
    pub in_flight: u64,
    /// What the algorithm compares, lower is better; `None` if it compares no loads.
    ///
    /// For `p2c` and `least_load` it is [the formula](crate) in requests, for `p2c` with `load: peak_ewma`
    /// the expected nanoseconds, for `bounded` the host's requests relative to its share of all, which must stay below
    /// `factor`.
    pub load: Option<f64>,
    /// What the algorithm ranks by, higher is better; `None` if it has no scores.
    pub score: Option<f64>,
    /// Why it would be picked or not.
    pub reason: CandidateReason,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        (self.host.id(), self.in_flight, self.reason)
            == (other.host.id(), other.in_flight, other.reason)
            && (self.load, self.score) == (other.load, other.score)
    }
}

/// Why a host is picked or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CandidateReason {
    /// It is picked.
    Taken,
    /// The request has failed on it.
    Tried,
    /// It is at its limit of requests in flight.
    Full,
    /// It is in slow start, and by chance this request goes to another host.
    Starting,
    /// Another host has a lower load, or the same load and was drawn first.
    Loaded,
    /// Other hosts were drawn.
    NotDrawn,
    /// It is another host's turn.
    Turn,
    /// Another host comes earlier for this key, on the ring or in the table.
    Ring,
    /// Another host has a higher score for this client.
    Score,
    /// It has its share of the requests in flight, times the factor.
    Bound,
    /// Its weight is 0.
    NoWeight,
}

impl CandidateReason {
    /// A short name, in logs and JSON.
    pub fn code(self) -> &'static str {
        match self {
            CandidateReason::Taken => "taken",
            CandidateReason::Tried => "tried",
            CandidateReason::Full => "full",
            CandidateReason::Starting => "starting",
            CandidateReason::Loaded => "loaded",
            CandidateReason::NotDrawn => "not_drawn",
            CandidateReason::Turn => "turn",
            CandidateReason::Ring => "ring",
            CandidateReason::Score => "score",
            CandidateReason::Bound => "bound",
            CandidateReason::NoWeight => "no_weight",
        }
    }
}

/// A line for a person.
impl fmt::Display for CandidateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CandidateReason::Taken => "the choice of the algorithm",
            CandidateReason::Tried => "has failed this request",
            CandidateReason::Full => "is at its limit of requests in flight",
            CandidateReason::Starting => "is in slow start, and leaves this request to others",
            CandidateReason::Loaded => "the picked host has no higher load",
            CandidateReason::NotDrawn => "other hosts were drawn",
            CandidateReason::Turn => "it is the turn of another host",
            CandidateReason::Ring => "comes later for this key",
            CandidateReason::Score => "another has a higher score for this client",
            CandidateReason::Bound => "is at its share of all requests, times the factor",
            CandidateReason::NoWeight => "its weight is 0",
        })
    }
}
