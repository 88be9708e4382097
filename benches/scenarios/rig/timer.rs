//! Precise timers. Tokio's timer counts in milliseconds, which is a tenth of the service times here; the kernel wakes a
//! sleeping thread within a tenth of a millisecond.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

static TIMER: LazyLock<Timer> = LazyLock::new(|| {
    std::thread::spawn(|| TIMER.run());
    Timer::default()
});

/// Waits until `moment`.
pub(super) async fn sleep_until(moment: Instant) {
    let (wake, woken) = oneshot::channel();
    TIMER.add(Alarm { moment, wake });
    // The thread lives as long as the process and drops no alarm.
    let _ = woken.await;
}

#[derive(Default)]
struct Timer {
    alarms: Mutex<BinaryHeap<Alarm>>,
    earlier: Condvar,
}

struct Alarm {
    moment: Instant,
    wake: oneshot::Sender<()>,
}

impl Timer {
    fn add(&self, alarm: Alarm) {
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        let first = alarms.peek().is_none_or(|next| alarm.moment < next.moment);
        alarms.push(alarm);
        if first {
            self.earlier.notify_one();
        }
    }

    fn run(&self) {
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = Instant::now();
            match alarms.peek().map(|next| next.moment) {
                Some(moment) if moment <= now => {
                    if let Some(due) = alarms.pop() {
                        let _ = due.wake.send(());
                    }
                }
                Some(moment) => {
                    let waited = self.earlier.wait_timeout(alarms, moment - now);
                    alarms = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    let waited = self.earlier.wait(alarms);
                    alarms = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// The earliest alarm is the greatest, because a heap returns its greatest item first.
impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        other.moment.cmp(&self.moment)
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.moment == other.moment
    }
}

impl Eq for Alarm {}
