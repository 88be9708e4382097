//! The session tickets of a listener.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::server::ProducesTickets;

use super::ticket_keys::{ROTATION, TicketKeys};
use crate::config::{ListenerTls, Secret};
use crate::metrics::TicketCounters;
use crate::timestamp::Timestamp;

/// Makes and opens the tickets of a listener, with keys that a reload may replace.
#[derive(Debug)]
pub(super) struct ListenerTickets {
    /// The keys without a secret, which are the same for all listeners.
    random: Arc<TicketKeys>,
    /// `None`: there are no tickets.
    keys: ArcSwapOption<TicketKeys>,
    /// The secret that the keys are from.
    secret: ArcSwap<Option<Secret>>,
    counters: TicketCounters,
}

impl ListenerTickets {
    pub(super) fn new(
        tls: &ListenerTls,
        random: Arc<TicketKeys>,
        counters: TicketCounters,
    ) -> Self {
        let tickets = ListenerTickets {
            random,
            keys: ArcSwapOption::empty(),
            secret: ArcSwap::default(),
            counters,
        };
        tickets.replace(tls);
        tickets
    }

    /// Uses the keys of `tls` for the tickets from now on. Those that were made before are good until they expire.
    pub(super) fn replace(&self, tls: &ListenerTls) {
        let secret = tls
            .session_tickets
            .as_ref()
            .map(|tickets| &tickets.secret_file);
        let before = self.keys.load_full();
        let keys = match (secret, &before) {
            (None, _) => None,
            (Some(None), _) => Some(Arc::clone(&self.random)),
            // It is the same secret.
            (Some(secret), Some(keys)) if **self.secret.load() == *secret => Some(Arc::clone(keys)),
            (Some(Some(secret)), earlier) => Some(Arc::new(TicketKeys::of_secret(
                &secret.bytes,
                earlier.as_deref(),
            ))),
        };
        self.keys.store(keys);
        self.secret.store(Arc::new(secret.cloned().flatten()));
    }
}

impl ProducesTickets for ListenerTickets {
    fn enabled(&self) -> bool {
        self.keys.load().is_some()
    }

    fn lifetime(&self) -> u32 {
        ROTATION as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.load().as_ref()?.seal(plain, unix_now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.load();
        let opened = keys.as_ref()?.open(ticket, unix_now());
        self.counters.count(opened.is_some());
        opened
    }
}

fn unix_now() -> u64 {
    Timestamp::now().unix_seconds() as u64
}
