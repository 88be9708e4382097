//! A drained host gets no new requests, its running requests finish, and it returns after an undrain.

use std::time::Duration;

use crate::support::{Backend, Ballast, Client, Reply, SOON, Setup, get, wait_until};

#[track_caller]
fn assert_served_only_by(ballast: &Ballast, backend: &str) {
    for _ in 0..12 {
        assert_eq!(get(ballast.address(), "/").backend(), backend);
    }
}

#[test]
fn a_drained_host_gets_no_new_requests_and_finishes_running_ones() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let ballast = Setup::of(&[&a, &b])
        .health("{ interval: 1s, timeout: 1s }")
        .pool("slow_start: none")
        .start();
    let host = b.address().to_string();
    for backend in [&a, &b] {
        backend.set(Reply::ok().body("end").after(Duration::from_millis(700)));
    }
    let mut clients = [(); 2].map(|()| {
        let mut client = Client::connect(ballast.address());
        client
            .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect("sent");
        client
    });
    wait_until(SOON, "each host has a request", || {
        (a.requests(), b.requests()) == (1, 1)
    });
    ballast.assert_output(&["drain", &host], "is draining, requests in flight: 1");
    for backend in [&a, &b] {
        backend.set(Reply::ok());
    }
    assert_served_only_by(&ballast, "a");
    for client in &mut clients {
        assert_eq!(
            client
                .read_response(false)
                .expect("a complete response")
                .text(),
            "end"
        );
    }
    // Health checks of the drained host continue.
    let seen = b.accepted();
    wait_until(SOON, "a check", || b.accepted() > seen);
    ballast.assert_output(&["drain", &host], "already drained");
    ballast.assert_output(&["undrain", &host, "--pool", "web"], "no longer drained");
    wait_until(SOON, "the host serves again", || {
        get(ballast.address(), "/").backend() == "b"
    });
    ballast.assert_output(&["undrain", &host], "was not drained");
    assert_eq!(ballast.log_with(&[&host, " drains"]).len(), 1);
}

#[test]
fn keys_of_a_drained_host_move_and_return() {
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let ballast = Setup::of(&backends.each_ref())
        .algorithm("{ name: consistent_hash, key: path }")
        .start();
    let mut client = Client::connect(ballast.address());
    let mut mapping = || -> Vec<String> {
        let keys = 0..60;
        keys.map(|key| client.get(&format!("/{key}")).backend().to_owned())
            .collect()
    };
    let before = mapping();
    let host = backends[1].address().to_string();
    ballast.assert_output(&["drain", &host], "is draining");
    for (key, (before, after)) in before.iter().zip(mapping()).enumerate() {
        assert_ne!(after, "b");
        assert!(before == "b" || *before == after, "key {key} moved");
    }
    ballast.assert_output(&["undrain", &host], "no longer drained");
    assert_eq!(mapping(), before);
}

#[test]
fn the_last_host_serves_although_it_is_drained() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let ballast = Setup::of(&[&a])
        .host_entry(&format!("{{ address: \"{}\", weight: 0 }}", b.address()))
        .health("{ interval: 1s, timeout: 1s, rise: 1, fall: 1 }")
        .start();
    assert_served_only_by(&ballast, "a");
    a.stop();
    wait_until(SOON, "the host of weight 0 serves", || {
        get(ballast.address(), "/").backend() == "b"
    });
    a.start();
    wait_until(SOON, "the other host is back", || {
        get(ballast.address(), "/").backend() == "a"
    });
    let host = a.address().to_string();
    ballast.assert_output(&["drain", &host], "it may still get requests");
    assert_eq!(get(ballast.address(), "/").status, 200);
}

#[test]
fn a_drain_survives_reload_and_handover_until_the_weight_is_edited() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let setup = |weight: u32, more: &str| {
        Setup::of(&[&a])
            .host_entry(&format!(
                "{{ address: \"{}\", weight: {weight} }}",
                b.address()
            ))
            .pool("slow_start: none")
            .top(more)
    };
    let ballast = setup(1, "").start();
    let host = b.address().to_string();
    ballast.assert_output(&["drain", &host], "is draining");
    ballast.reload_by_sighup(&setup(1, "").algorithm("p2c").yaml());
    assert_served_only_by(&ballast, "a");
    ballast.reload_by_sighup(&setup(2, "").yaml());
    wait_until(SOON, "the edit overrides the drain", || {
        get(ballast.address(), "/").backend() == "b"
    });
    ballast.assert_output(&["drain", &host], "is draining");
    ballast.configure(&setup(2, "server: { threads: 3 }").yaml());
    let end = ballast.reload();
    assert!(end.stdout.contains("handover"), "{end:?}");
    assert_served_only_by(&ballast, "a");
    ballast.assert_output(&["undrain", &host], "no longer drained");
    wait_until(SOON, "the host serves again", || {
        get(ballast.address(), "/").backend() == "b"
    });
}

#[test]
fn unknown_hosts_cannot_be_drained() {
    let a = Backend::start_new("a");
    let ballast = Setup::of(&[&a]).start();
    let host = a.address().to_string();
    for (args, reason) in [
        (vec!["drain", "nobody:1"], "no pool has a host `nobody:1`"),
        (
            vec!["undrain", "[::1]:80", "--pool", "web"],
            "the pool web does not have a host `[::1]:80`",
        ),
        (
            vec!["drain", &host, "--pool", "other one"],
            "there is no pool `other one`",
        ),
    ] {
        let end = ballast.command(&args);
        assert_eq!(end.code, Some(1), "{end:?}");
        assert!(end.stderr.contains(reason), "{reason}\n{end:?}");
    }
    assert_served_only_by(&ballast, "a");
}

/// Sends a request and waits until the backend has it.
fn begin_request(ballast: &Ballast, backend: &Backend) -> Client {
    let seen = backend.requests();
    let mut client = Client::connect(ballast.address());
    let sent = client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    sent.expect("sent");
    wait_until(SOON, "the host has the request", || {
        backend.requests() > seen
    });
    client
}

#[test]
fn drain_waits_for_the_requests_in_flight() {
    let a = Backend::start_new("a");
    a.set(Reply::ok().body("end").after(Duration::from_millis(700)));
    let ballast = Setup::of(&[&a]).start();
    let host = a.address().to_string();
    let mut client = begin_request(&ballast, &a);
    let end = ballast.command(&["drain", &host, "--wait"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let lines = Vec::from_iter(end.stdout.lines().skip(1));
    let waiting = format!("waiting for requests in flight on {host}: 1");
    let done = format!("no request is in flight on {host}");
    assert_eq!(lines, [waiting, done]);
    let response = client.read_response(false).expect("a complete response");
    assert_eq!(response.text(), "end");
}

#[test]
fn a_drain_that_waits_gives_up_at_its_timeout() {
    let a = Backend::start_new("a");
    a.set(Reply::Hang);
    let ballast = Setup::of(&[&a]).start();
    let host = a.address().to_string();
    let _client = begin_request(&ballast, &a);
    let end = ballast.command(&["drain", &host, "--wait", "--timeout", "300ms"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    let reason = format!("requests still in flight on {host} after 300ms: 1; it stays drained");
    assert_eq!(end.stderr.trim(), reason);
    ballast.assert_output(&["undrain", &host], "no longer drained");
    let end = ballast.command(&["drain", &host, "--timeout", "1s"]);
    assert_eq!(end.code, Some(2), "{end:?}");
}
