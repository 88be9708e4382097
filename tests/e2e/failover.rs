//! When a host fails, another host takes the request if that is safe. Otherwise the client gets an error.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Backend, Client, Connections, DeadHost, FullHost, Load, Next, Reply, SOON, Setup, get, long,
    peer, wait_until,
};

/// Checks often, so that the process soon notices a stopped host.
const QUICK_CHECK: &str = "{ interval: 500ms, timeout: 500ms, rise: 1, fall: 1 }";

/// When a host stops, each of the few clients may need a retry. Five earlier requests pay for each retry.
const ENOUGH: u64 = 200;

#[test]
fn refused_connections_fail_over_for_every_method() {
    let backend = Backend::start_new("a");
    let dead = [DeadHost::new(), DeadHost::new()];
    let ballast = Setup::of(&[&backend])
        .host(dead[0].address())
        .host(dead[1].address())
        .start();
    let mut client = Client::connect(ballast.address());
    let large = vec![b'x'; 300_000];
    for _ in 0..6 {
        assert_eq!(client.get("/").status, 200);
        assert_eq!(client.post("/", b"body").status, 200);
        assert_eq!(backend.last().body, b"body");
        assert_eq!(client.post("/", &large).status, 200);
        assert!(backend.last().body == large);
    }
    assert_eq!(backend.requests(), 18);
}

#[test]
fn an_idempotent_request_reset_before_its_response_fails_over() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let ballast = Setup::of(&[&good, &bad]).pool("ejection: none").start();
    for reply in [Reply::Reset, Reply::Close] {
        bad.set(reply.clone());
        let mut client = Client::connect(ballast.address());
        let before = bad.requests();
        for _ in 0..6 {
            assert_eq!(client.get("/").backend(), "good", "{reply:?}");
        }
        let put = "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody";
        for _ in 0..6 {
            let response = client.request(put).expect("a complete response");
            assert_eq!(response.backend(), "good", "{reply:?}");
            assert_eq!(good.last().body, b"body", "{reply:?}");
        }
        assert!(bad.requests() >= before + 2, "{reply:?}: bad was not tried");
    }
}

#[test]
fn a_post_that_was_sent_is_never_sent_again() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let ballast = Setup::of(&[&good, &bad]).pool("ejection: none").start();
    for reply in [Reply::Reset, Reply::Close] {
        let sent_before = good.requests() + bad.requests();
        bad.set(reply);
        let mut failed = 0;
        for _ in 0..10 {
            match Client::connect(ballast.address()).post("/", b"pay").status {
                200 => {}
                502 => failed += 1,
                status => panic!("{status} instead of 502"),
            }
        }
        assert_eq!(good.requests() + bad.requests(), sent_before + 10);
        assert_eq!(failed, 5);
    }
}

#[test]
fn a_host_that_closes_idle_connections_fails_no_request_and_repeats_no_post() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let ballast = Setup::of(&[&a, &b]).pool("ejection: none").start();
    // The responses do not announce the end, so the connections go back to the pool and end there.
    a.set(Reply::ok().then_close());
    b.set(Reply::ok().then_reset());
    let mut client = Client::connect(ballast.address());
    for _ in 0..200 {
        assert_eq!(client.get("/").status, 200);
    }
    let before = a.requests() + b.requests();
    let mut succeeded = 0;
    for _ in 0..200 {
        match client.try_post("/", b"pay") {
            Ok(response) if response.status == 200 => succeeded += 1,
            Ok(response) => {
                assert_eq!(response.status, 502);
                client = Client::connect(ballast.address());
            }
            Err(error) => panic!("no response to a POST: {error}"),
        }
    }
    let arrived = a.requests() + b.requests() - before;
    assert!(
        (succeeded..=200).contains(&arrived),
        "{succeeded} of 200 POSTs succeeded, and {arrived} arrived"
    );
    assert!(succeeded > 100, "only {succeeded} of 200 POSTs succeeded");
}

#[test]
fn a_restarted_host_is_used_again_over_fresh_connections() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    for _ in 0..5 {
        assert_eq!(client.get("/").status, 200);
        backend.stop();
        backend.start();
        assert_eq!(client.post("/", b"body").status, 200);
        backend.close_idle();
    }
}

#[test]
fn error_statuses_match_their_causes() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("timeouts: { connect: 2s, read: 2s }")
        .start();
    let post = || Client::connect(ballast.address()).post("/", b"x");

    backend.set(Reply::Hang);
    let start = Instant::now();
    let response = post();
    assert_eq!(response.status, 504, "silent host");
    assert!(!response.body.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(1_900));
    assert!(start.elapsed() < SOON);

    backend.set(Reply::Reset);
    let response = post();
    assert_eq!(response.status, 502, "reset");
    assert!(!response.body.is_empty());

    backend.set(Reply::script(|head, wire| {
        wire.read_body(head.framing().expect("announced"))?;
        wire.send("this is not HTTP\r\n\r\n")?;
        Ok(Next::Close)
    }));
    assert_eq!(post().status, 502, "nonsense");

    backend.stop();
    let response = post();
    assert_eq!(response.status, 502, "refused");
    assert!(!response.body.is_empty());
}

#[test]
fn a_host_that_does_not_accept_is_left_after_the_connect_timeout() {
    let full = FullHost::new();
    let backend = Backend::start_new("a");
    let alone = Setup::of(&[])
        .host(full.address())
        .pool("ejection: none")
        .top("timeouts: { connect: 200ms }")
        .start();
    // Single responses may be late on a busy machine. The default is three seconds.
    let times = [(); 3].map(|()| {
        let start = Instant::now();
        assert_eq!(get(alone.address(), "/").status, 504);
        start.elapsed()
    });
    let shortest = times.iter().min();
    assert!(shortest < Some(&Duration::from_secs(3)), "{times:?}");

    let both = Setup::of(&[&backend])
        .host(full.address())
        .top("timeouts: { connect: 1s }")
        .start();
    let mut client = Client::connect(both.address());
    for _ in 0..4 {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn without_a_usable_host_503_is_immediate_and_the_connection_stays() {
    let backend = Backend::start_new("a");
    backend.set_health(Reply::status(500));
    let ballast = Setup::of(&[&backend])
        .health("{ type: http, path: /healthz, interval: 1s, timeout: 1s }")
        .start();
    let mut client = Client::connect(ballast.address());
    let mut times = Vec::new();
    for _ in 0..21 {
        let start = Instant::now();
        let response = client.get("/");
        times.push(start.elapsed());
        assert_eq!(response.status, 503);
        assert!(!response.body.is_empty());
    }
    assert_eq!(client.post("/", b"body").status, 503);
    assert_eq!(client.get("/").status, 503);
    times.sort();
    // This time is too short for any wait.
    assert!(
        times[10] < Duration::from_millis(250),
        "median {:?}",
        times[10]
    );
    assert_eq!(backend.requests(), 0);
}

/// Puts load on three hosts. One of them stops and starts twice meanwhile.
fn no_request_fails_with(algorithm: &str) {
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let ballast = Setup::of(&backends.each_ref())
        .algorithm(algorithm)
        .health(QUICK_CHECK)
        .start();
    let load = Load::start(ballast.address(), 12, Connections::Kept);
    let fresh = Load::start(ballast.address(), 2, Connections::OnePerRequest);
    let address = backends[1].address().to_string();
    let is_down = || {
        let lines = ballast.log_with(&[&address]);
        let up_or_down = |line: &&String| line.contains("is up") || line.contains("is down");
        let last = lines.iter().rfind(up_or_down);
        last.is_some_and(|last| last.contains("is down"))
    };
    for _ in 0..2 {
        load.wait_for_more(ENOUGH);
        backends[1].stop();
        load.wait_for_more(ENOUGH);
        wait_until(SOON, "the host is known to be down", is_down);
        backends[1].start();
        let before = backends[1].requests();
        wait_until(SOON, "the host that came back gets requests", || {
            backends[1].requests() > before
        });
    }
    load.wait_for_more(ENOUGH);
    let tallies = [load.stop(), fresh.stop()];
    for tally in &tallies {
        tally.assert_all_ok(algorithm);
    }
    for backend in &backends {
        let got = tallies.iter().map(|tally| tally.of(backend.name()));
        assert!(got.sum::<u64>() > 0, "{backend:?} got nothing");
    }
}

/// Lets the load run for `time`, without a condition.
fn run_for(time: Duration) {
    thread::sleep(time);
}

macro_rules! no_request_fails {
    ($($test:ident: $algorithm:literal,)*) => {
        $(
            #[test]
            fn $test() {
                no_request_fails_with($algorithm);
            }
        )*
    };
}

no_request_fails! {
    no_request_fails_while_a_host_stops_with_random: "random",
    no_request_fails_while_a_host_stops_with_round_robin: "round_robin",
    no_request_fails_while_a_host_stops_with_round_robin_hyphened: "round-robin",
    no_request_fails_while_a_host_stops_with_p2c: "p2c",
    no_request_fails_while_a_host_stops_with_peak_ewma: "{ name: p2c, load: peak_ewma }",
    no_request_fails_while_a_host_stops_with_consistent_hash: "consistent_hash",
    no_request_fails_while_a_host_stops_with_consistent_hash_hyphened: "{ name: consistent-hash, key: path }",
    no_request_fails_while_a_host_stops_with_bounded: "{ name: bounded, factor: 1.25, key: uri }",
    no_request_fails_while_a_host_stops_with_ip_hash: "ip_hash",
    no_request_fails_while_a_host_stops_with_ip_hash_hyphened: "ip-hash",
    no_request_fails_while_a_host_stops_with_least_load: "least_load",
    no_request_fails_while_a_host_stops_with_least_load_hyphened: "least-load",
}

/// The long form of the same test with an independent load generator: one minute of wrk for each name.
#[test]
fn long_a_minute_of_wrk_without_a_failed_request() {
    if !long() {
        println!("skipped: only with BALLAST_LONG=1");
        return;
    }
    let Some(wrk) = peer("wrk") else { return };
    for algorithm in [
        "random",
        "round_robin",
        "round-robin",
        "p2c",
        "consistent_hash",
        "consistent-hash",
        "bounded",
        "ip_hash",
        "ip-hash",
        "least_load",
        "least-load",
    ] {
        let backends = ["a", "b", "c"].map(Backend::start_new);
        let ballast = Setup::of(&backends.each_ref())
            .algorithm(algorithm)
            .health("{}")
            .start();
        let address: SocketAddr = ballast.address();
        let wrk = wrk.clone();
        let run = thread::spawn(move || {
            Command::new(wrk)
                .args(["-t2", "-c32", "-d60s", &format!("http://{address}/")])
                .output()
        });
        for _ in 0..2 {
            run_for(Duration::from_secs(10));
            backends[1].stop();
            run_for(Duration::from_secs(10));
            backends[1].start();
        }
        let output = run.join().expect("no panic").expect("wrk runs");
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{algorithm}\n{text}");
        assert!(output.status.success() && text.contains("requests in"));
        assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"));
    }
}

#[test]
fn the_load_of_a_broken_host_is_divided_evenly() {
    // The requests of a dead host must not all go to a single other host.
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let ballast = Setup::of(&backends.each_ref())
        .algorithm("random")
        .host(DeadHost::new().address())
        .start();
    let mut client = Client::connect(ballast.address());
    let mut counts: HashMap<String, u32> = HashMap::new();
    for _ in 0..600 {
        *counts
            .entry(client.get("/").backend().to_owned())
            .or_default() += 1;
    }
    // The expected value is 200 for each host, with a deviation of 11.5. The bound is about five deviations.
    assert!(
        counts.values().all(|count| (140..=260).contains(count)),
        "{counts:?}"
    );
}
