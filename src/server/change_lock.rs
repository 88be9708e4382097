//! Locks that refuse changes during a handover. After the state was exported for a successor no change is accepted,
//! since the successor would miss a change that was acknowledged to an operator.
//!
//! Each change holds a [`ChangePermit`] while it is applied. Locking refuses new changes at once and waits for those in
//! progress; a later export contains every acknowledged change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The change locks of the process.
#[derive(Debug, Clone, Default)]
pub(super) struct ChangeLocks {
    /// For in-place reloads: locked before a successor reads the file.
    pub(super) reloads: Arc<ChangeLock>,
    /// For changes by operators: locked before the state is exported.
    pub(super) changes: Arc<ChangeLock>,
}

/// Permits changes until it is locked.
#[derive(Debug, Default)]
pub(super) struct ChangeLock {
    state: Mutex<LockState>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct LockState {
    locked: bool,
    /// Number of changes in progress.
    in_progress: usize,
}

impl ChangeLock {
    /// Begins a change; `None` while locked.
    pub(super) fn try_permit(self: &Arc<Self>) -> Option<ChangePermit> {
        let mut state = self.lock_state();
        if state.locked {
            return None;
        }
        state.in_progress += 1;
        drop(state);
        Some(ChangePermit(Arc::clone(self)))
    }

    /// Refuses changes from now on, and returns once the last one in progress has ended. Dropping the guard, or this
    /// future, unlocks.
    pub(super) async fn lock(self: &Arc<Self>) -> ChangeLockGuard {
        self.lock_state().locked = true;
        let locked = ChangeLockGuard(Some(Arc::clone(self)));
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // Registered: no later end is missed.
            ended.as_mut().enable();
            if self.lock_state().in_progress == 0 {
                return locked;
            }
            ended.await;
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, LockState> {
        // No update under this lock can be left half done, so a poisoned lock is usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change in progress. Dropping it ends the change.
#[derive(Debug)]
pub(super) struct ChangePermit(Arc<ChangeLock>);

impl Drop for ChangePermit {
    fn drop(&mut self) {
        self.0.lock_state().in_progress -= 1;
        self.0.ended.notify_waiters();
    }
}

/// A locked [`ChangeLock`]. Dropping it unlocks.
#[derive(Debug)]
pub(super) struct ChangeLockGuard(Option<Arc<ChangeLock>>);

impl ChangeLockGuard {
    /// Keeps the lock until the process ends.
    pub(super) fn keep_locked(mut self) {
        self.0 = None;
    }
}

impl Drop for ChangeLockGuard {
    fn drop(&mut self) {
        if let Some(change_lock) = &self.0 {
            change_lock.lock_state().locked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closing_waits_for_changes_and_refuses_new_ones() {
        let change_lock = Arc::new(ChangeLock::default());
        let change = change_lock.try_permit().expect("it is open");
        let locking = tokio::spawn({
            let change_lock = Arc::clone(&change_lock);
            async move { change_lock.lock().await }
        });
        while change_lock.try_permit().is_some() {
            tokio::task::yield_now().await;
        }
        assert!(!locking.is_finished(), "a change is under way");
        drop(change);
        let locked = locking.await.expect("it does not panic");
        assert!(change_lock.try_permit().is_none());
        drop(locked);
        assert!(
            change_lock.try_permit().is_some(),
            "the handover has failed"
        );
        change_lock.lock().await.keep_locked();
        assert!(change_lock.try_permit().is_none());
    }

    #[tokio::test]
    async fn a_handover_that_is_given_up_while_it_waits_unlocks() {
        let change_lock = Arc::new(ChangeLock::default());
        let _change = change_lock.try_permit().expect("it is open");
        let locking = change_lock.lock();
        let brief = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(brief, locking).await.is_err());
        assert!(change_lock.try_permit().is_some());
    }
}
