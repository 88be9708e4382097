//! Whether the process wants requests.

use tokio::sync::watch;

/// Whether the process wants requests: not before it serves, and not once it is told to stop.
#[derive(Debug)]
pub struct Readiness(watch::Sender<bool>);

impl Default for Readiness {
    /// Not ready.
    fn default() -> Self {
        Readiness(watch::Sender::new(false))
    }
}

impl Readiness {
    /// Whether the process wants requests now.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }

    /// Says whether it does from now on.
    pub fn set(&self, ready: bool) {
        self.0.send_replace(ready);
    }

    /// Waits until it does.
    pub async fn wait(&self) {
        // The sender lives as long as `self`, so there is always somebody to wait for.
        let _ = self.0.subscribe().wait_for(|ready| *ready).await;
    }
}
