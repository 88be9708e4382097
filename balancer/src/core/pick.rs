//! What an algorithm provides: how it is set, how it builds a picker for a set of hosts, and how that picks one of them.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use super::cursor::Cursor;
use super::error::BalancerError;
use super::hosts::Hosts;
use super::member::Member;
use super::rng::Rng;
use super::trace::{Ranked, Trace};
use crate::Fallback;

/// An algorithm with its options.
pub(crate) trait Strategy: Debug + Send + Sync {
    /// Sets an option by its name; `None` if there is no such option.
    fn set(&mut self, _option: &str, _value: &str) -> Option<Result<(), BalancerError>> {
        None
    }

    /// Whether the options are valid.
    ///
    /// # Errors
    /// [`BalancerError::InvalidOption`].
    fn check(&self) -> Result<(), BalancerError> {
        Ok(())
    }

    /// Builds the picker for `members`: at least one, each of a weight above 0. Called off the path of requests, once for
    /// each change of the membership.
    fn build(&self, members: &[Arc<Member>], before: Option<&Before<'_>>) -> Box<dyn Picker>;

    /// What picks for requests that lack what this algorithm hashes; `None` for an algorithm that hashes nothing.
    fn fallback(&self) -> Option<&Fallback> {
        None
    }

    /// Whether its picks depend on the number of requests on all members.
    fn counts_all(&self) -> bool {
        false
    }
}

/// What was there before a change of the membership.
#[derive(Debug)]
pub(crate) struct Before<'a> {
    pub(crate) members: &'a [Arc<Member>],
    pub(crate) picker: &'a dyn Picker,
    /// The number of the next turn.
    pub(crate) turn: u64,
}

impl<'a> Before<'a> {
    /// The picker, if it is of this type.
    pub(crate) fn picker<P: Picker>(&self) -> Option<&'a P> {
        (self.picker as &dyn Any).downcast_ref()
    }
}

/// Picks hosts for one set of members. Positions are those of the slice given to [`Strategy::build`].
///
/// Called by many threads at once: no lock, no allocation.
pub(crate) trait Picker: Any + Debug + Send + Sync {
    /// A host that [accepts](Hosts::accepts) the request. `None` only if none does.
    ///
    /// It writes nothing: what is to be written, it returns. The same call explains a pick, with numbers that are read ahead
    /// and a trace that records.
    fn pick(&self, hosts: &Hosts<'_>, rng: &Rng<'_>, trace: Trace<'_>) -> Option<Pick>;

    /// Hosts in order of preference, after [`pick`](Picker::pick) has `chosen`; those that are left out follow, in the order
    /// of joining, as not drawn. Only for explanations.
    fn rank(&self, _hosts: &Hosts<'_>, _turn: u64, _chosen: Option<usize>) -> Vec<Ranked> {
        Vec::new()
    }

    /// Whether the request has what is hashed. Asked if the algorithm has a [fallback](Strategy::fallback).
    fn has_key(&self, _hosts: &Hosts<'_>) -> bool {
        true
    }

    /// Whose turn is next; `None` if hosts take no turns.
    fn cursor(&self, _members: &[Arc<Member>], _turn: u64) -> Option<Cursor> {
        None
    }

    /// The same picker with the turn of `cursor` next; `None` if its host is no member, or hosts take no turns.
    fn sought(&self, _: &[Arc<Member>], _turn: u64, _cursor: &Cursor) -> Option<Box<dyn Picker>> {
        None
    }
}

/// A host that was picked, and what is written when the request is counted on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pick {
    pub(crate) position: usize,
    /// The number of its requests, if the pick holds for that alone: then it is counted in one atomic step, or picked anew.
    pub(crate) seen: Option<u64>,
    pub(crate) mark: Option<Mark>,
}

impl Pick {
    /// A pick that holds whatever has come in between.
    pub(crate) fn at(position: usize) -> Self {
        Pick {
            position,
            seen: None,
            mark: None,
        }
    }
}

/// The time of a pick, to be written to its host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    /// The time that was there, if the pick holds for one thread alone.
    pub(crate) instead_of: Option<u64>,
    pub(crate) now: u64,
}

impl Mark {
    /// Writes it; `false` if another thread was faster.
    pub(super) fn write(&self, member: &Member) -> bool {
        match self.instead_of {
            Some(before) => member.stats.try_mark_chosen(before, self.now),
            None => {
                member.stats.mark_chosen(self.now);
                true
            }
        }
    }
}
