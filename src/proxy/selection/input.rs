//! The inputs for selecting the host of an attempt.

use std::net::IpAddr;

use super::hash_key::{self, DerivedKey};
use super::sticky;
use crate::config::Retry;
use crate::message::RequestView;
use crate::pool::{Affinity, Pool};
use ballast_balancer::{HostId, Selection};

/// A request that needs a host of a pool.
#[derive(Debug)]
pub(crate) struct SelectionInput<'a> {
    request: RequestView<'a>,
    pool: &'a Pool,
    client: Option<IpAddr>,
    /// The key, if it is not a slice of the request.
    derived: Option<DerivedKey<'a>>,
    tried: &'a [HostId],
    attempts: usize,
    retry: RetryRules,
}

/// Whether and how often a request may be sent again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryRules {
    /// Which methods.
    pub(crate) methods: Retry,
    /// How often at most.
    pub(crate) attempts: usize,
}

impl<'a> SelectionInput<'a> {
    /// `attempts` counts the attempts made so far; `tried` lists the hosts that have failed the request.
    pub(crate) fn new(
        request: RequestView<'a>,
        pool: &'a Pool,
        client: Option<IpAddr>,
        attempts: usize,
        tried: &'a [HostId],
        retry: RetryRules,
    ) -> Self {
        let derived = pool.key();
        let derived = derived.and_then(|source| DerivedKey::of(source, request, client));
        SelectionInput {
            request,
            pool,
            client,
            derived,
            tried,
            attempts,
            retry,
        }
    }

    /// The hash key. `None`: the algorithm does not hash, or the request has no key.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        hash_key::extract(self.pool.key()?, self.request, self.derived.as_ref())
    }

    /// The request as the balancer sees it.
    pub(crate) fn selection(&self) -> Selection<'_> {
        let mut selection = Selection::new().tried(self.tried);
        if let Some(client) = self.client {
            selection = selection.client(client);
        }
        match self.key() {
            Some(key) => selection.key(key),
            None => selection,
        }
    }

    /// The host named by the affinity cookie, for the first attempt only: if that fails, the client moves to another
    /// host.
    pub(crate) fn affinity(&self) -> Option<Affinity> {
        let sticky = self.pool.sticky().filter(|_| self.attempts == 0)?;
        sticky::affinity(self.request, sticky)
    }

    /// Whether an attempt that begins now may be retried, as far as that is known in advance.
    pub(crate) fn can_be_retried(&self) -> bool {
        self.attempts < self.retry.attempts && is_repeatable(self.request, self.retry.methods)
    }
}

/// Whether a request may be sent twice.
pub(crate) fn is_repeatable(request: RequestView<'_>, retry: Retry) -> bool {
    match retry {
        Retry::Idempotent => request.method.is_idempotent(),
        Retry::AnyMethod => true,
    }
}
