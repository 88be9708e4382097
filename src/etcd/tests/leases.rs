//! Keys that end with the process that holds them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::{Followed, client};
use crate::etcd::{EtcdClient, LeasedKey, LeasedKeyStatus};
use crate::test_support::{Etcd, SOON};

/// The shortest lease.
const TTL: Duration = Duration::from_secs(1);

fn leased(client: &EtcdClient, value: &str) -> Arc<LeasedKey> {
    Arc::new(LeasedKey::new(client.clone(), "/members/a", value, TTL))
}

async fn until(status: &mut watch::Receiver<LeasedKeyStatus>, wanted: LeasedKeyStatus) {
    let reached = timeout(SOON, status.wait_for(|status| *status == wanted)).await;
    assert!(reached.is_ok(), "not within {SOON:?}: {wanted:?}");
}

#[tokio::test]
async fn a_key_is_deleted_at_shutdown_and_ends_with_its_lease_without_one() {
    let Some(etcd) = Etcd::start() else { return };
    let client = client(&etcd.section(""));
    let mut followed = Followed::start(&client, "/members/");
    let (shutdown, signal) = oneshot::channel();
    let key = leased(&client, "1");
    let task = tokio::spawn({
        let key = Arc::clone(&key);
        async move { key.run(async { drop(signal.await) }).await }
    });
    followed.until_values(&["1"]).await;
    key.set_value("2");
    followed.until_values(&["2"]).await;
    // It outlives a key whose later lease is not renewed.
    let other = client.grant_lease(TTL).await.expect("granted");
    client
        .put("/members/b", "other", Some(other))
        .await
        .expect("written");
    followed.until_values(&["2", "other"]).await;
    followed.until_values(&["2"]).await;
    shutdown.send(()).expect("it runs");
    task.await.expect("no panic");
    assert_eq!(client.get("/members/a").await, Ok(None));
    let killed = leased(&client, "3");
    let task = tokio::spawn(async move { killed.run(std::future::pending()).await });
    followed.until_values(&["3"]).await;
    task.abort();
    followed.until_values(&[]).await;
}

#[tokio::test]
async fn a_key_that_was_lost_is_written_again_and_one_that_was_taken_is_not() {
    let Some(etcd) = Etcd::start() else { return };
    let client = client(&etcd.section(""));
    let mut followed = Followed::start(&client, "/members/");
    let key = leased(&client, "1");
    let mut status = key.subscribe();
    let running = Arc::clone(&key);
    let task = tokio::spawn(async move { running.run(std::future::pending()).await });
    followed.until_values(&["1"]).await;
    client.delete("/members/a").await.expect("deleted");
    followed.until_values(&[]).await;
    followed.until_values(&["1"]).await;
    let found = client.get("/members/a").await.expect("read");
    let lease = found.expect("it is there").lease;
    client.revoke_lease(lease).await.expect("revoked");
    followed.until_values(&[]).await;
    followed.until_values(&["1"]).await;
    client
        .put("/members/a", "other", None)
        .await
        .expect("written");
    until(&mut status, LeasedKeyStatus::Taken).await;
    key.set_value("2");
    client.delete("/members/a").await.expect("deleted");
    until(&mut status, LeasedKeyStatus::Held).await;
    followed.until_values(&["2"]).await;
    task.abort();
}
