//! Applies the changes of a pool that come from checks, and those that come by time alone, such as the end of an ejection.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::pool::Pool;

/// The part of the time that reconciliation may take: thousands of hosts change their state one by one when they are checked
/// for the first time, and with many hosts each reconciliation takes a while.
const SHARE: u32 = 5;

/// What takes less than this may be done at any time.
const SHORT: Duration = Duration::from_millis(1);

const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Reconciles the pool when checks change verdicts, and whenever an ejection ends. Runs forever.
pub(super) async fn run(pool: &Pool) {
    loop {
        let due = async {
            match pool.next_change() {
                Some(at) => sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = pool.verdicts_changed() => {}
            () = pool.changed() => continue,
        }
        let begun = Instant::now();
        pool.reconcile();
        let took = begun.elapsed();
        if took > SHORT {
            sleep((took * (SHARE - 1)).min(MAX_PAUSE)).await;
        }
    }
}
