//! Checks decide which hosts get requests: before the first request and at every change. One slow host never delays
//! the checks of all.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Backend, Ballast, Client, DeadHost, HEALTH_PATH, Reply, SOON, Setup, get, wait_until,
};

const HTTP: &str = "type: http, path: /healthz";

/// Sends requests until `backend` is missing from `streak` responses in a row.
fn wait_until_unused(ballast: &Ballast, backend: &str) {
    let mut client = Client::connect(ballast.address());
    let mut streak = 0;
    wait_until(SOON, &format!("{backend} gets no more requests"), || {
        streak = match client.get("/").backend() == backend {
            true => 0,
            false => streak + 1,
        };
        streak == 12
    });
}

fn wait_until_used(ballast: &Ballast, backend: &str) {
    let mut client = Client::connect(ballast.address());
    wait_until(SOON, &format!("{backend} gets requests"), || {
        client.get("/").backend() == backend
    });
}

#[test]
fn no_request_reaches_an_unchecked_host() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    bad.set_health(Reply::status(503));
    let ballast = Setup::of(&[&bad, &good])
        .host(DeadHost::new().address())
        .health(&format!("{{ {HTTP}, interval: 5s, timeout: 5s }}"))
        .start();
    assert!(good.health_checks() >= 1 && bad.health_checks() >= 1);
    let mut client = Client::connect(ballast.address());
    for _ in 0..30 {
        assert_eq!(client.get("/").backend(), "good");
    }
    assert_eq!(bad.requests(), 0);
}

#[test]
fn a_silent_host_does_not_delay_the_first_round_of_checks() {
    let (good, silent) = (Backend::start_new("good"), Backend::start_new("silent"));
    silent.set_health(Reply::Hang);
    let yaml = Setup::of(&[&good, &silent])
        .health(&format!("{{ {HTTP}, interval: 1m, timeout: 3s }}"))
        .yaml();
    let start = Instant::now();
    let ballast = Ballast::spawn(&yaml);
    wait_until(SOON, "the first check arrives", || {
        silent.health_checks() == 1
    });
    let checked = Instant::now();
    assert!(!ballast.listens(), "open before the first round has ended");
    wait_until(SOON, "the listener opens", || ballast.listens());
    assert!(checked.elapsed() > Duration::from_millis(500));
    // The next round is due only after a minute.
    assert!(start.elapsed() < SOON);
    assert_eq!(get(ballast.address(), "/").backend(), "good");
}

#[test]
fn initial_up_serves_before_the_first_round() {
    let silent = Backend::start_new("silent");
    silent.set_health(Reply::Hang);
    let ballast = Setup::of(&[&silent])
        .health(&format!(
            "{{ {HTTP}, interval: 5s, timeout: 5s, initial: up }}"
        ))
        .start();
    assert_eq!(get(ballast.address(), "/").backend(), "silent");
}

#[test]
fn rise_and_fall_count_checks_and_each_change_logs_its_reason() {
    let (steady, flaky) = (Backend::start_new("steady"), Backend::start_new("flaky"));
    let ballast = Setup::of(&[&steady, &flaky])
        .health(&format!(
            "{{ {HTTP}, interval: 500ms, timeout: 500ms, rise: 4, fall: 3 }}"
        ))
        .start();
    let address = flaky.address().to_string();
    let lines = || {
        let mut lines = ballast.log_with(&[&address]);
        lines.retain(|line| !line.contains("DEBUG"));
        lines.len()
    };
    wait_until_used(&ballast, "flaky");
    let initial = lines();

    let failures_from = flaky.health_checks();
    flaky.set_health(Reply::status(500));
    wait_until(SOON, "the line on the failure", || lines() > initial);
    let failures = flaky.health_checks() - failures_from;
    // A check that was running at the switch may count on either side.
    assert!((3..=5).contains(&failures), "down after {failures} checks");
    let line = ballast.log_with(&[&address]).pop().expect("a line");
    assert!(line.contains("500"), "without the reason: {line}");
    wait_until_unused(&ballast, "flaky");

    let successes_from = flaky.health_checks();
    flaky.set_health(Reply::ok());
    wait_until(SOON, "the line on the recovery", || lines() > initial + 1);
    let successes = flaky.health_checks() - successes_from;
    assert!((4..=6).contains(&successes), "up after {successes} checks");
    wait_until_used(&ballast, "flaky");

    let (used, seen) = (flaky.requests(), flaky.health_checks());
    flaky.set_health(Reply::status(500));
    wait_until(SOON, "a failed check", || flaky.health_checks() > seen);
    flaky.set_health(Reply::ok());
    let seen = flaky.health_checks();
    wait_until(SOON, "more checks", || flaky.health_checks() > seen + 5);
    wait_until_used(&ballast, "flaky");
    assert!(flaky.requests() > used);
    assert_eq!(lines(), initial + 2, "{:#?}", ballast.log());
}

#[test]
fn a_silent_or_dripping_host_does_not_delay_the_checks_of_others() {
    let start = |name: &str| [(); 8].map(|()| Backend::start_new(name));
    let (silent, steady) = (start("silent"), start("steady"));
    let [dripping, dies] = ["dripping", "dies"].map(Backend::start_new);
    for backend in &silent {
        backend.set_health(Reply::Hang);
    }
    // Each byte comes well within the timeout, but the whole response never does.
    dripping.set_health(Reply::Drip(Duration::from_millis(100)));
    let backends = silent.iter().chain([&dripping, &dies]).chain(&steady);
    // If the checks ran one after the other, the silent hosts would take longer than any wait in this test.
    let ballast = Setup::of(&Vec::from_iter(backends))
        .health(&format!(
            "{{ {HTTP}, interval: 4s, timeout: 4s, rise: 1, fall: 1 }}"
        ))
        .start();
    wait_until_used(&ballast, "dies");
    let dead_address = dies.address().to_string();
    dies.set_health(Reply::status(500));
    ballast.wait_for_log(&[&dead_address, "is down"]);
    dies.set_health(Reply::ok());
    wait_until_used(&ballast, "dies");
    let requests = silent.iter().map(Backend::requests).sum::<u64>();
    assert_eq!((requests, dripping.requests()), (0, 0));
}

#[test]
fn a_tcp_check_notices_a_stopped_host_and_its_return() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let ballast = Setup::of(&[&a, &b])
        .health("{ interval: 500ms, timeout: 500ms, rise: 2, fall: 2 }")
        .start();
    wait_until_used(&ballast, "a");
    wait_until_used(&ballast, "b");
    b.stop();
    let address = b.address().to_string();
    ballast.wait_for_log(&[&address, "is down"]);
    wait_until_unused(&ballast, "b");
    b.start();
    wait_until_used(&ballast, "b");
}

#[test]
fn the_default_check_is_tcp_every_two_seconds() {
    let backend = Backend::start_new("a");
    let ballast = Ballast::start(
        &Setup::of(&[&backend])
            .yaml()
            .replace("    health_check: none\n", ""),
    );
    wait_until(SOON, "the first check", || backend.accepted() >= 1);
    let start = Instant::now();
    // Single checks may be late on a busy machine.
    let shortest = (2..6).map(|number| {
        let before = Instant::now();
        wait_until(SOON, "the next check", || backend.accepted() >= number);
        before.elapsed()
    });
    let shortest = shortest.min().unwrap_or_default();
    assert!(shortest < Duration::from_millis(3500), "{shortest:?}");
    assert!(start.elapsed() > Duration::from_secs(6));
    assert_eq!(backend.connections(), 0);
    assert_eq!(get(ballast.address(), "/").status, 200);
}

#[test]
fn an_http_check_sends_the_configured_request() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    a.set_health(Reply::status(204));
    b.set_health(Reply::status(200));
    let ballast = Setup::of(&[&a, &b])
        .health(
            "{ type: http, method: HEAD, path: /healthz, host: check.example, expect: [204, 301-302], interval: 1s, \
             timeout: 1s, rise: 1, fall: 1 }",
        )
        .start();
    let check = a.last_health_check();
    assert_eq!(check.start, format!("HEAD {HEALTH_PATH} HTTP/1.1"));
    assert_eq!(check.all("host"), ["check.example"]);
    let mut client = Client::connect(ballast.address());
    for _ in 0..10 {
        assert_eq!(
            client.get("/").backend(),
            "a",
            "b responds with 200, not 204"
        );
    }
    b.set_health(Reply::status(302));
    wait_until_used(&ballast, "b");
}

#[test]
fn an_http_check_names_the_host_itself_by_default() {
    let backend = Backend::start_new("a");
    let _ballast = Setup::of(&[&backend])
        .health(&format!("{{ {HTTP} }}"))
        .start();
    let check = backend.last_health_check();
    assert_eq!(check.start, format!("GET {HEALTH_PATH} HTTP/1.1"));
    assert_eq!(check.all("host"), [backend.address().to_string()]);
}

#[test]
fn when_all_hosts_are_down_clients_get_503_until_one_recovers() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let ballast = Setup::of(&[&a, &b])
        .health("{ interval: 1s, timeout: 1s, rise: 1, fall: 1 }")
        .start();
    let status = || get(ballast.address(), "/").status;
    assert_eq!(status(), 200);
    a.stop();
    b.stop();
    wait_until(SOON, "503", || status() == 503);
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.get("/").status, 503);
    b.start();
    wait_until(SOON, "200", || client.get("/").status == 200);
    assert_eq!(client.get("/").backend(), "b");
}

#[test]
fn try_all_uses_every_host_if_all_are_down() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    for backend in [&a, &b] {
        backend.set_health(Reply::status(500));
    }
    let ballast = Setup::of(&[&a, &b])
        .pool("when_all_down: try_all")
        .health(&format!(
            "{{ {HTTP}, interval: 1s, timeout: 1s, rise: 1, fall: 1 }}"
        ))
        .start();
    let mut client = Client::connect(ballast.address());
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(a.requests() > 0 && b.requests() > 0);
    // As soon as one host is healthy, only that host gets requests.
    a.set_health(Reply::ok());
    wait_until_unused(&ballast, "b");
    assert_eq!(client.get("/").backend(), "a");
}

#[test]
fn running_requests_of_a_host_that_goes_down_finish() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let ballast = Setup::of(&[&a, &b])
        .health(&format!(
            "{{ {HTTP}, interval: 1s, timeout: 1s, rise: 1, fall: 1 }}"
        ))
        .start();
    let slow = Reply::ok().body("end").after(Duration::from_secs(4));
    a.set(slow.clone());
    b.set(slow);
    let mut client = Client::connect(ballast.address());
    client
        .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    wait_until(SOON, "the request is under way", || {
        a.requests() + b.requests() == 1
    });
    for backend in [&a, &b] {
        backend.set_health(Reply::status(500));
    }
    assert_eq!(
        client
            .read_response(false)
            .expect("a complete response")
            .text(),
        "end"
    );
    wait_until(SOON, "503", || get(ballast.address(), "/").status == 503);
}

#[test]
fn sigterm_during_the_first_round_ends_the_process() {
    let silent = Backend::start_new("silent");
    silent.set_health(Reply::Hang);
    let yaml = Setup::of(&[&silent])
        .health(&format!("{{ {HTTP}, interval: 20s, timeout: 20s }}"))
        .yaml();
    let mut ballast = Ballast::spawn(&yaml);
    wait_until(SOON, "the first check arrives", || {
        silent.health_checks() == 1
    });
    ballast.signal(Signal::SIGTERM);
    ballast.wait_exit(SOON);
}

#[test]
fn a_check_timeout_does_not_remove_a_host_that_serves_requests() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let ballast = Setup::of(&[&a, &b])
        .health(&format!(
            "{{ {HTTP}, interval: 500ms, timeout: 500ms, rise: 1, fall: 2 }}"
        ))
        .start();
    let address = b.address().to_string();
    b.set_health(Reply::Hang);
    let seen = b.health_checks();
    let mut client = Client::connect(ballast.address());
    wait_until(SOON, "five checks that took too long", || {
        assert_eq!(client.get("/").status, 200);
        b.health_checks() > seen + 5
    });
    assert!(ballast.log_with(&[&address, "is down"]).is_empty());
    // A wrong response to a check counts, whatever the requests show.
    b.set_health(Reply::status(500));
    wait_until(SOON, "the host is down", || {
        client.get("/");
        !ballast.log_with(&[&address, "is down"]).is_empty()
    });
    b.set_health(Reply::ok());
    wait_until(SOON, "the host is up again", || {
        ballast.log_with(&[&address, "is up"]).len() == 2
    });
    // Without requests there is no proof that the host works.
    b.set_health(Reply::Hang);
    let line = ballast.wait_for_log(&[&address, "is down: timed out"]);
    assert!(line.contains("500ms"), "{line}");
}

#[test]
fn simultaneous_check_timeouts_of_most_hosts_remove_none() {
    for fall in [1, 3] {
        let backends = ["a", "b", "c", "d"].map(Backend::start_new);
        let ballast = Setup::of(&backends.each_ref())
            .health(&format!(
                "{{ {HTTP}, interval: 500ms, timeout: 500ms, rise: 1, fall: {fall} }}"
            ))
            .start();
        backends.iter().for_each(|b| b.set_health(Reply::Hang));
        // On a very busy machine a late timer may start the correlated failure.
        ballast.wait_for_log(&["pool web: correlated failure"]);
        let seen = backends[0].health_checks();
        wait_until(SOON, "many more checks", || {
            backends[0].health_checks() > seen + 5
        });
        assert!(ballast.log_with(&["is down"]).is_empty());
        assert_eq!(get(ballast.address(), "/").status, 200);
        // A refused check still takes its host out.
        backends[3].stop();
        let gone = backends[3].address().to_string();
        ballast.wait_for_log(&[&gone, "is down"]);
        for backend in &backends[..3] {
            backend.set_health(Reply::ok());
        }
        ballast.wait_for_log(&["the correlated failure is over"]);
        let before = ballast.log_with(&["pool web: correlated failure"]).len();
        assert!(before <= 3, "{:#?}", ballast.log());
    }
}

#[test]
fn a_process_that_was_suspended_marks_no_host_down() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let ballast = Setup::of(&[&a, &b])
        .health(&format!(
            "{{ {HTTP}, interval: 1s, timeout: 1s, rise: 1, fall: 1 }}"
        ))
        .start();
    // The first check of a host decides alone, and may have failed on a busy machine.
    let initial = ballast.log_with(&["is down"]).len();
    for _ in 0..3 {
        let seen = (a.health_checks(), b.health_checks());
        a.set_health(Reply::ok().after(Duration::from_millis(500)));
        b.set_health(Reply::ok().after(Duration::from_millis(500)));
        wait_until(SOON, "a check is under way", || {
            (a.health_checks(), b.health_checks()) != seen
        });
        ballast.signal(Signal::SIGSTOP);
        let start = Instant::now();
        wait_until(SOON, "the pause exceeds the timeout of a check", || {
            start.elapsed() > Duration::from_secs(2)
        });
        ballast.signal(Signal::SIGCONT);
        let seen = (a.health_checks(), b.health_checks());
        wait_until(SOON, "the checks continue", || {
            a.health_checks() > seen.0 && b.health_checks() > seen.1
        });
        assert_eq!(get(ballast.address(), "/").status, 200);
    }
    assert_eq!(
        ballast.log_with(&["is down"]).len(),
        initial,
        "{:?}",
        ballast.log()
    );
}
