//! Applies the changes of a pool that come by time alone, such as the end of an ejection.

use std::future::pending;

use tokio::time::sleep_until;

use crate::pool::Pool;

/// Reconciles the pool whenever an ejection ends. Runs forever.
pub(super) async fn run(pool: &Pool) {
    loop {
        let due = async {
            match pool.next_change() {
                Some(at) => sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = due => pool.reconcile(),
            () = pool.changed() => {}
        }
    }
}
