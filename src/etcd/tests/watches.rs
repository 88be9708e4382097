//! A watched prefix: what it shows of changes, and through failures of etcd.

use std::time::{Duration, Instant};

use super::forwarder::{Forwarder, Line};
use super::{Followed, SHORT, client, client_at};
use crate::etcd::transaction::{Operation, Transaction};
use crate::etcd::{EtcdClient, PrefixStatus};
use crate::test_support::{Etcd, SOON};

#[tokio::test]
async fn changes_are_seen_within_a_second() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.control(&["put", "/hosts/a", "1"]);
    let client = client(&etcd.section(""));
    let mut followed = Followed::start(&client, "/hosts/");
    followed.until_values(&["1"]).await;
    let started = Instant::now();
    client.put("/hosts/b", "2", None).await.expect("written");
    client.put("/other", "3", None).await.expect("written");
    followed.until_values(&["1", "2"]).await;
    assert!(client.delete("/hosts/a").await.expect("deleted"));
    followed.until_values(&["2"]).await;
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_silent_watch_is_asked_and_goes_on() {
    let Some(etcd) = Etcd::start() else { return };
    let client = client(&etcd.section(SHORT));
    // Nothing happens until it ends, which is longer than a watch may be silent.
    let lease = client.grant_lease(Duration::from_secs(3)).await;
    let lease = lease.expect("granted");
    client
        .put("/hosts/a", "1", Some(lease))
        .await
        .expect("written");
    let mut followed = Followed::start(&client, "/hosts/");
    followed.until_values(&["1"]).await;
    let always = |status: &PrefixStatus| {
        assert_eq!(status.failure, None);
        super::shown(status).is_empty()
    };
    followed.until("the end of the key", always).await;
}

#[tokio::test]
async fn keys_stay_while_etcd_is_away() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    etcd.control(&["put", "/hosts/a", "1"]);
    let client = client(&etcd.section(""));
    let mut followed = Followed::start(&client, "/hosts/");
    followed.until_values(&["1"]).await;
    etcd.kill(0);
    followed
        .until("the failure", |status| status.failure.is_some())
        .await;
    assert_eq!(super::shown(&followed.status.borrow()), ["1"]);
    etcd.restart(0);
    etcd.control(&["put", "/hosts/b", "2"]);
    let always = |status: &PrefixStatus| {
        assert!(!super::shown(status).is_empty(), "{status:?}");
        status.failure.is_none() && super::shown(status) == ["1", "2"]
    };
    followed.until("both keys", always).await;
}

#[tokio::test]
async fn what_was_compacted_in_the_meantime_is_read_again() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.control(&["put", "/hosts/a", "1"]);
    let line = Forwarder::start(etcd.address(0)).await;
    let client = client_at(&[line.address], "");
    let mut followed = Followed::start(&client, "/hosts/");
    followed.until_values(&["1"]).await;
    let old = followed.status.borrow().snapshot.clone().expect("shown");
    line.set(Line::Cut);
    followed
        .until("the failure", |status| status.failure.is_some())
        .await;
    etcd.control(&["put", "/hosts/b", "2"]);
    etcd.control(&["del", "/hosts/a"]);
    etcd.compact();
    line.set(Line::Open);
    followed.until_values(&["2"]).await;
    // A watch from before is refused.
    let watch = client.watch(b"/hosts/", old.revision, old.cluster_id).await;
    let mut watch = watch.expect("it is open");
    let reason = loop {
        match watch.next().await {
            // A sign of life.
            Ok(None) => {}
            Ok(Some(changes)) => panic!("its revision is gone: {changes:?}"),
            Err(reason) => break reason,
        }
    };
    assert!(reason.contains("compacted"), "{reason}");
}

#[tokio::test]
async fn a_silent_connection_is_noticed() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.control(&["put", "/hosts/a", "1"]);
    let line = Forwarder::start(etcd.address(0)).await;
    let client = client_at(&[line.address, etcd.address(0)], SHORT);
    let mut followed = Followed::start(&client, "/hosts/");
    followed.until_values(&["1"]).await;
    line.set(Line::Silent);
    let started = Instant::now();
    etcd.control(&["put", "/hosts/a", "2"]);
    followed.until_values(&["2"]).await;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert!(client.endpoint().ends_with(&etcd.address(0).to_string()));
}

#[tokio::test]
async fn members_that_hang_or_die_are_left() {
    let Some(mut etcd) = Etcd::start_members(3) else {
        return;
    };
    let client = client(&etcd.section(SHORT));
    put_until_written(&client, "/hosts/a", "1").await;
    let mut followed = Followed::start(&client, "/hosts/");
    followed.until_values(&["1"]).await;
    let used = |etcd: &Etcd| {
        let mut members = 0..3;
        let used = members.find(|it| client.endpoint().ends_with(&etcd.address(*it).to_string()));
        used.expect("one of them")
    };
    let hanging = used(&etcd);
    etcd.pause(hanging);
    put_until_written(&client, "/hosts/b", "2").await;
    followed.until_values(&["1", "2"]).await;
    assert_ne!(used(&etcd), hanging);
    etcd.resume(hanging);
    etcd.kill((hanging + 1) % 3);
    put_until_written(&client, "/hosts/c", "3").await;
    followed.until_values(&["1", "2", "3"]).await;
}

#[tokio::test]
async fn thousands_of_keys_are_read_in_pages() {
    let Some(etcd) = Etcd::start() else { return };
    let client = client(&etcd.section("request_timeout: 20s"));
    let numbers = Vec::from_iter(0..5_000);
    for part in numbers.chunks(125) {
        let puts = part.iter().map(|number| {
            let key = format!("/hosts/{number:05}").into_bytes();
            Operation::Put(key, b"host".repeat(20), None)
        });
        let transaction = Transaction {
            then: puts.collect(),
            ..Transaction::default()
        };
        client.transact(transaction).await.expect("written");
    }
    let mut followed = Followed::start(&client, "/hosts/");
    followed
        .until("all keys at once", |status| {
            let count = status.snapshot.as_ref().map(|it| it.keys.len());
            assert!(count.is_none_or(|count| count == 5_000), "{count:?}");
            count.is_some()
        })
        .await;
    client.delete("/hosts/00000").await.expect("deleted");
    followed
        .until("one key less", |status| {
            status
                .snapshot
                .as_ref()
                .is_some_and(|it| it.keys.len() == 4_999)
        })
        .await;
}

/// Without a leader nothing can be written for a second.
async fn put_until_written(client: &EtcdClient, key: &str, value: &str) {
    let written = async { while client.put(key, value, None).await.is_err() {} };
    let written = tokio::time::timeout(SOON, written).await;
    written.expect("there is a leader soon");
}
