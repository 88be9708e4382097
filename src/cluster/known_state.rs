//! What a member knows of its cluster: what etcd has told, and what it has published itself since.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::secret::ClusterSecret;
use super::view::{ClusterView, SharedChanges};

/// The view of this member. A snapshot that is older than a change that it has published never undoes that change.
#[derive(Debug, Default)]
pub(super) struct KnownState {
    view: Arc<ClusterView>,
    /// The revision of the last snapshot; 0 before the first.
    revision: i64,
    /// The etcd that the last snapshot is of.
    cluster_id: u64,
    /// Published here, and not yet in a snapshot.
    published: BTreeMap<String, SharedChanges>,
}

impl KnownState {
    /// The view.
    pub(super) fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&self.view)
    }

    /// The secret that is known, also if etcd has lost it.
    pub(super) fn secret(&self) -> Option<ClusterSecret> {
        self.view.secret.clone()
    }

    /// Begins with what was known at the end of another process.
    pub(super) fn restore(&mut self, view: ClusterView) {
        self.view = Arc::new(view);
    }

    /// Takes in a snapshot as of `revision`. Returns whether the view has changed.
    pub(super) fn take(&mut self, mut view: ClusterView, revision: i64, cluster_id: u64) -> bool {
        if cluster_id != self.cluster_id {
            // Revisions of another etcd say nothing about those of this one.
            self.published.clear();
        } else if revision < self.revision {
            return false;
        }
        (self.revision, self.cluster_id) = (revision, cluster_id);
        self.published
            .retain(|_, published| published.revision > revision);
        let published = self.published.iter();
        view.changes
            .extend(published.map(|(pool, changes)| (pool.clone(), changes.clone())));
        // An etcd that was emptied gets the same one again: sessions go on.
        view.secret = view.secret.or_else(|| self.secret());
        let is_changed = *self.view != view;
        self.view = Arc::new(view);
        is_changed
    }

    /// Notes a change that this member has published; the next change of the pool is based on it.
    pub(super) fn note_published(&mut self, pool: &str, shared: SharedChanges) {
        let known = self.view.changes.get(pool).map(|known| known.revision);
        if shared.revision <= self.revision || known >= Some(shared.revision) {
            // The snapshot has it, or what came after it.
            return;
        }
        let view = Arc::make_mut(&mut self.view);
        view.changes.insert(pool.to_owned(), shared.clone());
        self.published.insert(pool.to_owned(), shared);
    }
}

#[cfg(test)]
mod tests;
