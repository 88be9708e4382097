//! Whether the process is ready for requests.

use tokio::sync::watch;

/// Readiness of the process: false until it serves, and false again once it is asked to stop.
#[derive(Debug)]
pub struct Readiness(watch::Sender<bool>);

impl Default for Readiness {
    /// Not ready.
    fn default() -> Self {
        Readiness(watch::Sender::new(false))
    }
}

impl Readiness {
    /// Whether the process is ready now.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }

    /// Sets the readiness, and wakes the waiters.
    pub fn set(&self, ready: bool) {
        self.0.send_replace(ready);
    }

    /// Waits until the process is ready.
    pub async fn wait(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|ready| *ready).await;
    }
}
