//! From verdicts to membership, one reconciler per pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::config::Initial;
use crate::pool::{Member, Pool};

/// Brings the usable hosts of one pool in line with the verdicts of their checks; nobody else changes them.
///
/// It compares what should be with what is, instead of passing changes on, so no change can be lost or overtaken.
#[derive(Debug)]
pub(super) struct Reconciler {
    pool: Arc<Pool>,
    /// By position in the pool.
    healthy: Vec<AtomicBool>,
    changed: Notify,
}

impl Reconciler {
    pub(super) fn new(pool: Arc<Pool>, initial: Initial) -> Self {
        let up = initial == Initial::Up;
        let members = pool.members().iter();
        let healthy = |member: &Member| member.verdict().map_or(up, |verdict| verdict.healthy);
        Reconciler {
            healthy: members.map(|m| AtomicBool::new(healthy(m))).collect(),
            pool,
            changed: Notify::new(),
        }
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(super) fn member(&self, position: usize) -> &Member {
        &self.pool.members()[position]
    }

    /// Takes in a verdict; the membership follows as soon as [`run`](Reconciler::run) gets to it.
    pub(super) fn judge(&self, position: usize, healthy: bool) {
        self.healthy[position].store(healthy, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// Follows the verdicts, for ever.
    pub(super) async fn run(&self) {
        loop {
            self.changed.notified().await;
            self.reconcile();
        }
    }

    /// Must not run twice at the same time.
    pub(super) fn reconcile(&self) {
        for (member, healthy) in self.pool.members().iter().zip(&self.healthy) {
            if healthy.load(Ordering::SeqCst) {
                self.pool.admit(member);
            } else {
                self.pool.withdraw(member);
            }
        }
    }
}
