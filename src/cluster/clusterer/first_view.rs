//! What a member begins with.

use std::sync::atomic::Ordering;
use std::time::Duration;

use log::warn;
use tokio::runtime;
use tokio::time::timeout;

use super::Cluster;
use crate::cluster::saved_view::ViewFile;
use crate::etcd::{EtcdClient, PrefixWatch};

/// How long a start waits for what the others share.
const FIRST_VIEW: Duration = Duration::from_secs(5);

impl Cluster {
    /// Reads once what the members share, and blocks until then, at most for 5 s. Without an answer, the member begins with
    /// what it knew last.
    pub(crate) fn read_once(&self) {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                warn!("cluster: etcd cannot be asked: {error}");
                return;
            }
        };
        let read = runtime.block_on(async {
            // Connections belong to the runtime in which they are made.
            let client = EtcdClient::new(&self.0.config.etcd)?;
            let watch = PrefixWatch::new(client, self.0.key_names.prefix());
            let mut status = watch.subscribe();
            let read = async {
                tokio::select! {
                    () = watch.run() => {}
                    read = status.wait_for(|status| status.snapshot.is_some() || status.failure.is_some()) => drop(read),
                }
            };
            let _ = timeout(FIRST_VIEW, read).await;
            let status = status.borrow().clone();
            match (&status.snapshot, status.failure) {
                (Some(snapshot), _) => Ok(snapshot.clone()),
                (None, Some(failure)) => Err(failure),
                (None, None) => Err(format!("etcd has not answered within {FIRST_VIEW:?}")),
            }
        });
        runtime.shutdown_background();
        match read {
            Ok(snapshot) => self.take(&snapshot),
            Err(reason) => self.begin_alone(&reason),
        }
    }

    fn begin_alone(&self, reason: &str) {
        let name = &self.0.config.name;
        let saved = self.0.file.as_ref().map(ViewFile::load);
        let saved = saved.unwrap_or(Ok(None)).unwrap_or_else(|error| {
            warn!("cluster {name}: what this member knew last cannot be read: {error}");
            None
        });
        let Some(saved) = saved else {
            warn!("cluster {name}: this member goes on alone: {reason}");
            return;
        };
        let (members, at) = (saved.members.max(1), saved.saved);
        warn!(
            "cluster {name}: this member goes on alone with what it knew at {at}, one of {members}: {reason}"
        );
        self.0.members.store(members, Ordering::Relaxed);
        self.known().restore(saved.view());
        self.0.changed.notify_one();
    }
}
