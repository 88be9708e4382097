//! Endpoints that are dead, hang or lie.

use std::time::{Duration, Instant};

use prost::Message;

use super::lying_server::{Lie, LyingServer};
use super::{Followed, SHORT, client_at};
use crate::etcd::EtcdError;
use crate::etcd::messages::{KeyValue, RangeResponse, ResponseHeader};
use crate::test_support::{DeadHost, Etcd, FullHost};

#[tokio::test]
async fn dead_and_hanging_endpoints_cost_a_timeout_each_and_once() {
    let Some(etcd) = Etcd::start() else { return };
    let (dead, full) = (DeadHost::new(), FullHost::new());
    let silent = LyingServer::start(Lie::Silence).await;
    let endpoints = [
        dead.address(),
        full.address(),
        silent.address,
        etcd.address(0),
    ];
    let client = client_at(&endpoints, SHORT);
    let started = Instant::now();
    client
        .put("/a", "1", None)
        .await
        .expect("the last one answers");
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    assert!(client.endpoint().ends_with(&etcd.address(0).to_string()));
    let again = client.put("/a", "2", None).await;
    again.expect("it is asked first");
    let mut followed = Followed::start(&client, "/a");
    followed.until_values(&["2"]).await;
}

#[tokio::test]
async fn a_change_is_not_repeated_if_its_answer_is_lost() {
    let silent = LyingServer::start(Lie::Silence).await;
    let dead = DeadHost::new();
    let client = client_at(&[dead.address(), silent.address], SHORT);
    let error = client.create("/a", "1", None).await.expect_err("no answer");
    assert!(matches!(error, EtcdError::OutcomeUnknown(_)), "{error}");
    let client = client_at(&[dead.address()], SHORT);
    let error = client
        .create("/a", "1", None)
        .await
        .expect_err("no connection");
    assert!(matches!(error, EtcdError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn lies_are_errors_and_bounded() {
    let page = |more: bool, keys: &[&str]| {
        let response = RangeResponse {
            header: Some(ResponseHeader {
                cluster_id: 1,
                revision: 1,
            }),
            kvs: Vec::from_iter(keys.iter().map(|key| KeyValue {
                key: key.as_bytes().to_vec(),
                ..KeyValue::default()
            })),
            more,
        };
        Lie::Message(response.encode_to_vec())
    };
    for lie in [
        Lie::Length(11),
        Lie::Length(u32::MAX),
        Lie::Message(vec![0xff; 100]),
        Lie::Message(Vec::new()),
        page(true, &[]),
        page(true, &["/a/b"]),
        page(false, &["/a/c", "/a/b"]),
        page(false, &["/b"]),
    ] {
        let server = LyingServer::start(lie.clone()).await;
        let client = client_at(&[server.address], SHORT);
        let started = Instant::now();
        let read = client.read_prefix("/a/").await;
        assert!(read.is_err(), "{lie:?}: {read:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{lie:?}");
    }
    // Every read is answered, and no watch ever is one.
    let server = LyingServer::start(page(false, &["/a/b"])).await;
    let client = client_at(&[server.address], SHORT);
    let mut followed = Followed::start(&client, "/a/");
    followed
        .until("the failure", |status| status.failure.is_some())
        .await;
    assert_eq!(super::shown(&followed.status.borrow()), [""]);
}
