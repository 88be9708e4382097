//! What is counted: each request once, with any outcome; hosts while they are in the configuration; nothing that a
//! client can multiply.

mod cardinality;
mod external_tools;
pub(crate) mod scrape;
mod shipped_files;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use scrape::{Scrape, after};

use crate::admin::with_admin;
use crate::support::{
    Authority, Backend, Ballast, Client, Connections, DeadHost, HEALTH_PATH, LISTEN, Load, Reply,
    SOON, Setup, get, wait_until,
};

fn host(backend: &Backend) -> String {
    backend.address().to_string()
}

/// Waits until the samples of a name have this sum.
#[track_caller]
fn wait_for(admin: SocketAddr, name: &str, labels: &[(&str, &str)], value: f64) {
    wait_until(SOON, &format!("{name} {labels:?} is {value}"), || {
        Scrape::of(admin).sum(name, labels) == value
    });
}

#[test]
fn a_request_is_counted_once_however_many_attempts_it_takes() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    bad.set(Reply::Reset);
    let dead = DeadHost::new();
    let setup = Setup::of(&[&good, &bad])
        .host(dead.address())
        .pool("ejection: none");
    let (setup, admin) = with_admin(setup);
    let ballast = setup.start();
    let mut client = Client::connect(ballast.address());
    for _ in 0..60 {
        assert_eq!(client.get("/").backend(), "good");
    }
    let scrape = after(admin, 60);
    let served = [("pool", "web"), ("host", &host(&good)), ("code", "2xx")];
    assert_eq!(scrape.sum("ballast_requests_total", &served), 60.0);
    let attempts = |labels: &[(&str, &str)]| scrape.sum("ballast_attempts_total", labels);
    let failed = attempts(&[("host", &host(&bad))]);
    assert_eq!(failed, bad.requests() as f64);
    assert!(failed > 0.0);
    let refused = attempts(&[("host", &dead.address().to_string()), ("reason", "connect")]);
    assert!(refused > 0.0);
    assert_eq!(attempts(&[]), 60.0 + failed + refused);
    assert_eq!(
        scrape.sum("ballast_retries_total", &[("pool", "web")]),
        failed + refused
    );
    let durations = "ballast_request_duration_seconds_count";
    assert_eq!(scrape.sum(durations, &[]), 60.0);
}

#[test]
fn every_outcome_is_counted_once() {
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend])
        .top("routes: [{ host: known.test, pool: web }]")
        .top("timeouts: { client_head: 1s }");
    let (setup, admin) = with_admin(setup);
    let ballast = setup.start();
    let status = |request: &str| {
        let mut client = Client::connect(ballast.address());
        client.request(request).expect("a complete response").status
    };
    let known = "GET / HTTP/1.1\r\nHost: known.test\r\n\r\n";
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(40_000));
    for (request, expected) in [
        (known, 200),
        ("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", 404),
        ("TRACE / HTTP/1.1\r\nHost: known.test\r\n\r\n", 405),
        ("no request\r\n\r\n", 400),
        (&long, 431),
        ("GET / HTTP/1.1\r\nHost: kn", 408),
    ] {
        assert_eq!(status(request), expected);
    }
    backend.set(Reply::Hang);
    let mut leaving = Client::connect(ballast.address());
    leaving.send(known).expect("sent");
    wait_until(SOON, "the host has the request", || backend.requests() == 2);
    wait_for(admin, "ballast_host_in_flight", &[], 1.0);
    wait_for(admin, "ballast_in_flight", &[], 1.0);
    leaving.abort();
    let scrape = after(admin, 7);
    let count = |labels: &[(&str, &str)]| scrape.sum("ballast_requests_total", labels);
    assert_eq!(count(&[("code", "2xx"), ("pool", "web")]), 1.0);
    assert_eq!(count(&[("code", "4xx"), ("pool", "")]), 5.0);
    assert_eq!(count(&[("code", "none"), ("pool", "web")]), 1.0);
    let rejected = |reason| scrape.sum("ballast_rejects_total", &[("reason", reason)]);
    assert_eq!(rejected("no_route"), 1.0);
    assert_eq!(rejected("bad_request"), 2.0);
    assert_eq!(rejected("too_large"), 1.0);
    assert_eq!(rejected("head_timeout"), 1.0);
    assert_eq!(scrape.sum("ballast_rejects_total", &[]), 5.0);
    assert_eq!(scrape.sum("ballast_panics_total", &[]), 0.0);
    let attempts = scrape.sum("ballast_attempts_total", &[("reason", "client")]);
    assert_eq!(attempts, 1.0);
    wait_for(admin, "ballast_host_in_flight", &[], 0.0);
}

#[test]
fn times_bytes_and_connections_are_measured() {
    let backend = Backend::start_new("a");
    let body = "b".repeat(5_000);
    backend.set(Reply::ok().body(body).after(Duration::from_millis(60)));
    let (setup, admin) = with_admin(Setup::of(&[&backend]));
    let ballast = setup.start();
    let mut client = Client::connect(ballast.address());
    for _ in 0..3 {
        assert_eq!(client.post("/", &[7; 1_000]).status, 200);
    }
    let scrape = after(admin, 3);
    let pool = [("pool", "web")];
    assert_eq!(scrape.sum("ballast_received_bytes_total", &pool), 3_000.0);
    assert_eq!(scrape.sum("ballast_sent_bytes_total", &pool), 15_000.0);
    for name in ["request", "first_byte"] {
        let part = |part: &str, labels: &[_]| {
            scrape.sum(&format!("ballast_{name}_duration_seconds_{part}"), labels)
        };
        assert_eq!(part("count", &[]), 3.0, "{name}");
        let seconds = part("sum", &[]);
        assert!((0.18..10.0).contains(&seconds), "{name}: {seconds}");
        let own = host(&backend);
        let below = |le| part("bucket", &[("host", &own), ("le", le)]);
        assert_eq!(below("0.05"), 0.0, "{name}");
        assert_eq!(below("+Inf"), 3.0, "{name}");
    }
    let connections = scrape.sum("ballast_connect_duration_seconds_count", &[]);
    assert_eq!(connections, backend.connections() as f64);
    let listener = [("listener", &*ballast.address().to_string())];
    let accepted = scrape.sum("ballast_connections_total", &listener);
    // The first connection only checked whether the process listens.
    assert!(accepted >= 2.0, "{accepted}");
    wait_for(admin, "ballast_connections", &[], 1.0);
    drop(client);
    wait_for(admin, "ballast_connections", &[], 0.0);
}

#[test]
fn hosts_show_their_state_and_its_changes() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let setup = Setup::of(&[&bad])
        .host_entry(&format!("{{ address: \"{}\", weight: 7 }}", good.address()))
        .health(&format!(
            "{{ type: http, path: {HEALTH_PATH}, interval: 1s, timeout: 1s, fall: 1, rise: 1 }}"
        ))
        .pool("ejection: { base: 60s, rate: 0%, consecutive: 3 }");
    let (setup, admin) = with_admin(setup);
    let ballast = setup.start();
    let (good_host, bad_host) = (host(&good), host(&bad));
    let of_bad = [("pool", "web"), ("host", &*bad_host)];
    let of_good = [("pool", "web"), ("host", &*good_host)];
    let scrape = Scrape::of(admin);
    assert_eq!(scrape.sum("ballast_host_weight", &of_good), 7.0);
    for name in ["healthy", "serving"] {
        let name = format!("ballast_host_{name}");
        assert_eq!(scrape.sum(&name, &[]), 2.0);
    }
    bad.set(Reply::status(500));
    wait_until(SOON, "the host is ejected", || {
        get(ballast.address(), "/");
        Scrape::of(admin).sum("ballast_host_ejected", &of_bad) == 1.0
    });
    let scrape = Scrape::of(admin);
    assert_eq!(scrape.sum("ballast_ejections_total", &of_bad), 1.0);
    assert_eq!(scrape.sum("ballast_ejections_total", &of_good), 0.0);
    assert_eq!(scrape.sum("ballast_host_serving", &of_bad), 0.0);
    let errors = [of_bad[1], ("reason", "status")];
    assert!(scrape.sum("ballast_attempts_total", &errors) >= 3.0);
    let passed = [of_bad[1], ("outcome", "ok")];
    assert!(scrape.sum("ballast_checks_total", &passed) >= 1.0);
    bad.set_health(Reply::status(503));
    wait_for(admin, "ballast_host_healthy", &of_bad, 0.0);
    let failed = [of_bad[1], ("outcome", "failed")];
    assert!(Scrape::of(admin).sum("ballast_checks_total", &failed) >= 1.0);
    let drained = ballast.command(&["drain", &good_host]);
    assert_eq!(drained.code, Some(0), "{drained:?}");
    wait_for(admin, "ballast_host_draining", &of_good, 1.0);
}

#[test]
fn the_length_of_the_queue_is_measured() {
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().after(Duration::from_millis(700)));
    let setup =
        Setup::of(&[&backend]).pool("limits: { max_in_flight: 1, queue: 2, queue_timeout: 10s }");
    let (setup, admin) = with_admin(setup);
    let ballast = setup.start();
    let address = ballast.address();
    let clients = [(); 3].map(|()| thread::spawn(move || get(address, "/").status));
    wait_for(admin, "ballast_queue_length", &[("pool", "web")], 2.0);
    assert_eq!(get(address, "/").status, 503);
    for client in clients {
        assert_eq!(client.join().expect("no panic"), 200);
    }
    let scrape = after(admin, 4);
    let full = [("reason", "queue_full")];
    assert_eq!(scrape.sum("ballast_rejects_total", &full), 1.0);
    let unplaced = [("pool", "web"), ("host", ""), ("code", "503")];
    assert_eq!(scrape.sum("ballast_requests_total", &unplaced), 1.0);
}

#[test]
fn a_reload_keeps_the_counts_and_drops_removed_hosts() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let (setup, admin) = with_admin(Setup::of(&[&a, &b]));
    let ballast = setup.start();
    for _ in 0..10 {
        get(ballast.address(), "/");
    }
    let before = after(admin, 10);
    b.set(Reply::ok().after(Duration::from_millis(1_500)));
    let arrived = b.requests();
    let address = ballast.address();
    let running = thread::spawn(move || {
        let mut client = Client::connect(address);
        // Of the two hosts in turn, one is slow.
        (client.get("/").status, client.get("/").status)
    });
    wait_until(SOON, "a request runs on b", || b.requests() > arrived);
    let left = Setup::of(&[&a]).top(&format!("admin: {{ address: \"{admin}\" }}"));
    let line = ballast.reload_by_sighup(&left.pool("limits: { queue: 5 }").yaml());
    assert!(line.contains("reloaded in place"), "{line}");
    let after_removal = Scrape::of(admin);
    assert!(
        !after_removal.text.contains(&host(&b)),
        "{}",
        after_removal.text
    );
    let of_a = [("host", &*host(&a)), ("code", "2xx")];
    let kept = before.sum("ballast_requests_total", &of_a);
    assert!(after_removal.sum("ballast_requests_total", &of_a) >= kept && kept > 0.0);
    assert_eq!(running.join().expect("no panic"), (200, 200));
    wait_for(admin, "ballast_in_flight", &[], 0.0);
    let after_it = Scrape::of(admin);
    assert!(
        !after_it.text.contains(&host(&b)),
        "the host was readmitted"
    );
    let in_place = [("way", "in_place"), ("outcome", "ok")];
    assert_eq!(after_it.sum("ballast_reloads_total", &in_place), 1.0);
    assert_ne!(before.values("hash"), after_it.values("hash"));
    let loaded = "ballast_config_load_timestamp_seconds";
    assert!(after_it.sum(loaded, &[]) > before.sum(loaded, &[]));
    let line = ballast.reload_by_sighup("nonsense: 1\n");
    assert!(line.contains("not reloaded"), "{line}");
    let failed = [("way", "in_place"), ("outcome", "failed")];
    wait_for(admin, "ballast_reloads_total", &failed, 1.0);
    assert_eq!(Scrape::of(admin).values("hash"), after_it.values("hash"));
}

#[test]
fn clients_and_hosts_cannot_create_series() {
    let backend = Backend::start_new("a");
    backend.set(Reply::script(|head, wire| {
        // The status that the target asks for.
        let status = head.word(1).rsplit('/').next().unwrap_or("200").to_owned();
        wire.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))?;
        Ok(crate::support::Next::Keep)
    }));
    let (setup, admin) = with_admin(Setup::of(&[&backend]).pool("ejection: none"));
    let ballast = setup.start();
    get(ballast.address(), "/200");
    let before = after(admin, 1).len();
    let mut client = Client::connect(ballast.address());
    let mut answered = 0;
    for number in 0..2_000 {
        let status = 200 + number % 400;
        let request = format!(
            "M{number} /{number}/{status} HTTP/1.1\r\nHost: h{number}.test\r\nX-{number}: {number}\r\n\r\n"
        );
        // A connection ends after so many requests; the client opens others.
        match client.request(request) {
            Ok(_) => answered += 1,
            Err(_) => client = Client::connect(ballast.address()),
        }
    }
    assert!(answered > 1_900, "{answered} of 2000");
    wait_until(SOON, "the requests are counted", || {
        Scrape::of(admin).requests() > f64::from(answered)
    });
    assert_eq!(Scrape::of(admin).len(), before);
}

#[test]
fn connections_without_a_request_are_counted_by_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("own");
    let (certificate, key) = authority.issue(&["a.test"]).write(folder.path(), "a");
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend]).top(&format!(
        "listeners: [{{ address: \"{LISTEN}\", deny: [127.0.0.8], tls: {{ certificates: [{{ certificate: \"{}\", \
         key: \"{}\" }}] }} }}]",
        certificate.display(),
        key.display()
    ));
    let (setup, admin) = with_admin(setup);
    let ballast = setup.start();
    let mut client =
        Client::tls(ballast.address(), "a.test", authority.client()).expect("connected");
    assert_eq!(client.get("/").status, 200);
    let scrape = after(admin, 1);
    let done = [("outcome", "ok"), ("version", "TLSv1_3")];
    assert_eq!(scrape.sum("ballast_tls_handshakes_total", &done), 1.0);
    let tls = [("reason", "tls")];
    // The connection that checks whether the process listens sends nothing and closes.
    let before = scrape.sum("ballast_rejects_total", &tls);
    let mut plain = Client::connect(ballast.address());
    let _ = plain.request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    wait_until(SOON, "a handshake has failed", || {
        Scrape::of(admin).sum("ballast_rejects_total", &tls) > before
    });
    let failed = [("outcome", "failed")];
    assert!(Scrape::of(admin).sum("ballast_tls_handshakes_total", &failed) >= 1.0);
    let denied = "127.0.0.8".parse().expect("an address");
    drop(Client::from_ip(denied, ballast.address()));
    let reason = [("reason", "connection_denied")];
    wait_for(admin, "ballast_rejects_total", &reason, 1.0);
}

/// Checks often enough that a host that comes back is used again within the test.
const CHECKED: &str = "{ interval: 100ms, timeout: 100ms }";

/// Stops and starts a host, lets another one fail in turn, and reloads, while clients send requests.
fn disrupt(ballast: &Ballast, yaml: &str, backends: &[Backend; 3]) {
    for fault in [
        Reply::Reset,
        Reply::status(503).into(),
        Reply::ResetMidBody,
        Reply::Close,
    ] {
        backends[1].stop();
        backends[2].set(fault);
        thread::sleep(Duration::from_millis(250));
        backends[1].start();
        thread::sleep(Duration::from_millis(250));
        backends[2].set(Reply::ok());
        let line = ballast.reload_by_sighup(yaml);
        assert!(line.contains("reloaded in place"), "{line}");
    }
}

#[test]
fn counts_equal_those_of_the_clients_after_faults() {
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let (setup, admin) = with_admin(Setup::of(&backends.each_ref()).health(CHECKED));
    let ballast = setup.start();
    let kept = Load::start(ballast.address(), 6, Connections::Kept);
    let new = Load::start(ballast.address(), 2, Connections::OnePerRequest);
    disrupt(&ballast, &setup.yaml(), &backends);
    let mut total = 0;
    for tally in [kept.stop(), new.stop()] {
        // A request whose response broke off counts as well; in this test no request is lost before it is read.
        total += tally.total();
    }
    let scrape = after(admin, total);
    assert!(scrape.sum("ballast_retries_total", &[]) > 0.0);
    let host_requests: u64 = backends.iter().map(Backend::requests).sum();
    let reached = scrape.sum("ballast_attempts_total", &[])
        - scrape.sum("ballast_attempts_total", &[("reason", "connect")]);
    println!(
        "{total} requests, {host_requests} reached hosts, {reached} attempts had a connection"
    );
    assert!(host_requests as f64 <= reached);
}
