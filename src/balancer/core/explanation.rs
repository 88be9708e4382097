//! What a choice would be, and why.

use std::fmt;
use std::sync::Arc;

use super::error::BalancerError;
use super::host::{Host, HostId};

/// What [`Balancer::lease`](crate::balancer::Balancer::lease) would choose for a request, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The host that would be chosen, or the error that a pick would end with.
    pub outcome: Result<HostId, BalancerError>,
    /// Every member, in the order in which the algorithm would come to them.
    pub candidates: Vec<Candidate>,
}

/// A member of the balancer in the eyes of one choice.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The host.
    pub host: Arc<Host>,
    /// Requests that run on it.
    pub in_flight: u64,
    /// What the algorithm compares, the lower the better; `None` where it weighs no loads.
    ///
    /// That of `p2c` and `least_load` is [the formula](crate::balancer) in requests, of `p2c` with `load: peak_ewma` the
    /// expected nanoseconds, of `bounded` the host's requests relative to its share of all, which may not reach `factor`.
    pub load: Option<f64>,
    /// What the algorithm ranks by, the higher the better; `None` where it gives no scores.
    pub score: Option<f64>,
    /// Why it would be taken or not.
    pub reason: CandidateReason,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        (self.host.id(), self.in_flight, self.reason)
            == (other.host.id(), other.in_flight, other.reason)
            && (self.load, self.score) == (other.load, other.score)
    }
}

/// Why a host is taken or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CandidateReason {
    /// It is the choice.
    Taken,
    /// The request has failed on it.
    Tried,
    /// As many requests run there as may.
    Full,
    /// It starts slowly, and chance left this request to others.
    Starting,
    /// Another host has less to do, or as little and was drawn before it.
    Loaded,
    /// Chance has drawn others.
    NotDrawn,
    /// It is the turn of another.
    Turn,
    /// Another comes before it on the ring.
    Ring,
    /// Another has a higher score for this client.
    Score,
    /// It has its share of the requests in flight, times the factor.
    Bound,
    /// Its weight is 0.
    NoWeight,
}

impl CandidateReason {
    /// One word for programs.
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
            CandidateReason::Full => "as many requests run there as may",
            CandidateReason::Starting => "starts slowly, and leaves this request to others",
            CandidateReason::Loaded => "the one taken has no more to do",
            CandidateReason::NotDrawn => "others were drawn",
            CandidateReason::Turn => "it is the turn of another",
            CandidateReason::Ring => "comes later on the ring",
            CandidateReason::Score => "another has a higher score for this client",
            CandidateReason::Bound => "has its share of all requests, times the factor",
            CandidateReason::NoWeight => "its weight is 0",
        })
    }
}
