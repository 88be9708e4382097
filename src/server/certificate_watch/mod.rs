//! Notices changed files of certificates, authorities, revocation lists and secrets of TLS, and reads them while the ones
//! before serve.
//!
//! Files are looked at in intervals instead of being watched by the kernel. That notices every way in which they change:
//! written in place, renamed over, swapped behind a symbolic link somewhere in the path, or changed on another machine that
//! exports them; and no event can be missed. It costs a call to the kernel for each file and interval.

mod scan;

use std::collections::BTreeMap;
use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

use log::error;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::timestamp::Timestamp;

use crate::file_stamps::SeenFiles;
use scan::Watched;

pub(super) use scan::Scan;

/// A shorter interval would keep a core busy with many certificates.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Looks at the files of TLS in intervals.
#[derive(Debug)]
pub(super) struct CertificateWatch {
    seen: SeenFiles,
    /// Why changed files are not used.
    refused: BTreeMap<PathBuf, String>,
    /// When files were looked at last, in Unix seconds.
    looked: i64,
    last: Instant,
    running: Option<JoinHandle<Scan>>,
}

impl CertificateWatch {
    /// A watch of files that were read just now.
    pub(super) fn new() -> Self {
        CertificateWatch {
            seen: SeenFiles::default(),
            refused: BTreeMap::new(),
            looked: unix_now(),
            last: Instant::now(),
            running: None,
        }
    }

    /// The next look at the files of `config`, once its interval has passed or `renewed` says that there are new
    /// certificates. May be cancelled and called again.
    pub(super) async fn next_scan(&mut self, config: &Config, renewed: &Notify) -> Scan {
        loop {
            if let Some(running) = &mut self.running {
                let scan = running.await;
                self.running = None;
                match scan {
                    Ok(scan) => return scan,
                    Err(error) => error!("the certificates could not be checked: {error}"),
                }
            }
            let has_tls = config.listeners.iter().any(|it| it.tls.is_some())
                || config.pools.iter().any(|pool| pool.tls.is_some());
            let interval = config.server.certificate_check.filter(|_| has_tls);
            tokio::select! {
                () = self.wait(interval) => {}
                () = renewed.notified() => {}
            }
            self.last = Instant::now();
            let watched = Watched::of(config);
            let (seen, before) = (self.seen.clone(), self.looked);
            // A file system that does not respond holds up one thread, and no reload.
            let scan = move || Scan::of(&watched, &seen, before, unix_now());
            self.running = Some(spawn_blocking(scan));
        }
    }

    async fn wait(&self, interval: Option<Duration>) {
        match interval {
            Some(interval) => sleep_until(self.last + interval.max(MIN_INTERVAL)).await,
            None => pending().await,
        }
    }

    /// Records what `scan` has seen. Returns the refusals that are new, or have another reason than before.
    pub(super) fn finish(&mut self, scan: &mut Scan) -> Vec<(PathBuf, String)> {
        self.seen = std::mem::take(&mut scan.seen);
        self.looked = scan.at;
        let before = std::mem::replace(&mut self.refused, scan.refused.clone());
        let mut refused = scan.refused.clone();
        refused.retain(|file, reason| before.get(file) != Some(reason));
        refused.into_iter().collect()
    }

    /// Forgets which files were seen, because a reload has read all of them. The result of a running scan is ignored.
    pub(super) fn restart(&mut self) {
        *self = CertificateWatch::new();
    }

    /// Why changed files are not used.
    pub(super) fn refused(&self) -> &BTreeMap<PathBuf, String> {
        &self.refused
    }
}

fn unix_now() -> i64 {
    Timestamp::now().unix_seconds() as i64
}
