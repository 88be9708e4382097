//! Tests with a real etcd, and with servers that lie.

mod faults;
mod forwarder;
mod keys;
mod leases;
mod lying_server;
mod watches;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{EtcdClient, PrefixStatus, PrefixWatch};
use crate::test_support::SOON;

/// Timeouts that a test can wait for. Others keep the defaults, which a busy machine does not reach.
const SHORT: &str = "connect_timeout: 1s, request_timeout: 1s";

fn client(section: &str) -> EtcdClient {
    let config = crate::config::Etcd::parse(section).expect("the section is valid");
    EtcdClient::new(&config).expect("the files are valid")
}

/// A client of a server without TLS.
pub(super) fn client_at(endpoints: &[SocketAddr], more: &str) -> EtcdClient {
    let urls = Vec::from_iter(endpoints.iter().map(|at| format!("\"http://{at}\"")));
    client(&format!("{{ endpoints: [{}], {more} }}", urls.join(", ")))
}

/// A prefix that is followed until this is dropped.
struct Followed {
    status: watch::Receiver<PrefixStatus>,
    task: JoinHandle<()>,
}

impl Followed {
    fn start(client: &EtcdClient, prefix: &str) -> Self {
        let watch = Arc::new(PrefixWatch::new(client.clone(), prefix));
        let status = watch.subscribe();
        let task = tokio::spawn(async move { watch.run().await });
        Followed { status, task }
    }

    async fn until(&mut self, what: &str, condition: impl FnMut(&PrefixStatus) -> bool) {
        let is_reached = matches!(
            timeout(SOON, self.status.wait_for(condition)).await,
            Ok(Ok(_))
        );
        let last = self.status.borrow();
        assert!(is_reached, "not within {SOON:?}: {what}; {last:?}");
    }

    /// Waits until the values under the prefix are these.
    async fn until_values(&mut self, values: &[&str]) {
        let what = format!("the values {values:?}");
        self.until(&what, |status| {
            status.failure.is_none() && shown(status) == values
        })
        .await;
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The values in the order of their keys.
fn shown(status: &PrefixStatus) -> Vec<&str> {
    let keys = status.snapshot.iter().flat_map(|it| it.keys.values());
    let values = keys.map(|key| std::str::from_utf8(&key.value).expect("tests write text"));
    values.collect()
}
