//! A successor dies or freezes right after it has begun to serve: its predecessor takes over again.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Notifications, Service, is_gone, main_process, yaml};
use crate::support::{
    Backend, Client, Connections, LISTEN, Load, Reply, SOON, Setup, finish, free, get, wait_until,
};

/// The longest time that clients may wait while their process is frozen: the predecessor notices after 2.5 seconds, and
/// a busy machine adds some time.
const NOTICED: Duration = Duration::from_secs(15);

/// Begins a handover and returns the successor as soon as it serves.
#[track_caller]
fn begin_handover(service: &Service) -> Pid {
    let known = service.ballast.log_with(&["handed over: "]).len();
    service.signal(Signal::SIGQUIT);
    wait_until(Duration::from_secs(30), "the successor serves", || {
        service.ballast.log_with(&["handed over: "]).len() > known
    });
    *service
        .successors()
        .last()
        .expect("a successor was started")
}

/// Ends or freezes the successor by `signal` under load.
#[track_caller]
fn lose_successor(signal: Signal) {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]).health("{ interval: 1s }"));
    let address = service.ballast.address();
    let before = service.serving();
    let pace = Duration::from_millis(5);
    let kept = Load::start_paced(address, 4, Connections::Kept, pace);
    let fresh = Load::start_paced(address, 4, Connections::OnePerRequest, pace);
    let successor = begin_handover(&service);
    kill(successor, signal).expect("the process runs");
    let lost = Instant::now();
    service
        .ballast
        .wait_for_log(&["no handover, serving again"]);
    assert_eq!(get(address, "/").status, 200);
    assert!(lost.elapsed() < NOTICED, "{:?}", lost.elapsed());
    wait_until(SOON, "the pid file names the serving process", || {
        service.serving() == before
    });
    assert!(is_gone(successor), "the frozen successor was killed");
    for (load, what) in [(kept, "kept"), (fresh, "fresh")] {
        let tally = load.stop();
        // The connections that the successor had accepted when it died: at most one request of each client.
        assert!(tally.errors.len() <= 4, "{what}: {:?}", tally.errors);
        let ok = tally.by_status.get(&200).copied().unwrap_or_default();
        assert_eq!(ok + tally.errors.len() as u64, tally.total(), "{what}");
        println!(
            "{what}: {ok} requests succeeded, {} failed",
            tally.errors.len()
        );
    }
    let kept = Load::start_paced(address, 4, Connections::Kept, pace);
    let mut client = Client::connect(address);
    for _ in 0..3 {
        let response = client.get("/");
        assert!(!response.head.has_token("connection", "close"));
    }
    // Commands and the next successor find everything at its place.
    let end = service.ballast.reload();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.starts_with("reloaded, in-place"), "{end:?}");
    service.hand_over();
    wait_until(SOON, "the predecessor is gone", || is_gone(before));
    kept.stop().assert_all_ok("after the successor was lost");
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn the_predecessor_serves_again_if_its_successor_is_killed() {
    lose_successor(Signal::SIGKILL);
}

#[test]
fn the_predecessor_serves_again_if_its_successor_freezes() {
    lose_successor(Signal::SIGSTOP);
}

#[test]
fn pending_connections_are_served_by_the_predecessor() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let address = service.ballast.address();
    let successor = begin_handover(&service);
    kill(successor, Signal::SIGSTOP).expect("the process runs");
    wait_until(SOON, "the successor is stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{successor}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('T'))
    });
    let start = Instant::now();
    let clients: Vec<_> = (0..10)
        .map(|_| thread::spawn(move || get(address, "/").status))
        .collect();
    for client in clients {
        assert_eq!(client.join().expect("a response"), 200);
    }
    assert!(start.elapsed() < NOTICED, "{:?}", start.elapsed());
}

#[test]
fn a_manual_successor_is_watched() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let mut successor = service.ballast.successor();
    successor.wait_for_log(&["prepared; waiting"]);
    service.signal(Signal::SIGQUIT);
    service.ballast.wait_for_log(&["handed over: "]);
    successor.signal(Signal::SIGSTOP);
    service
        .ballast
        .wait_for_log(&["no handover, serving again", "has not answered"]);
    assert!(
        !successor.wait_exit(SOON).success(),
        "the successor was killed"
    );
    wait_until(SOON, "the pid file names the serving process", || {
        service.serving() == service.ballast.pid()
    });
    assert_eq!(get(service.ballast.address(), "/").status, 200);
}

#[test]
fn a_reload_reports_a_lost_successor() {
    let backend = Backend::start_new("a");
    let admin = free();
    let setup = Setup::of(&[&backend]).top(&format!("admin: {{ address: \"{admin}\" }}"));
    let service = Service::start(&setup);
    let address = service.ballast.address();
    wait_until(SOON, "the control socket exists", || {
        service.ballast.path("control").exists()
    });
    let more = setup.top(&format!("listeners: [\"{LISTEN}\", \"{}\"]", free()));
    let more = yaml(&more).replace(LISTEN, &address.to_string());
    std::fs::write(service.ballast.file(), more).expect("the file can be written");
    let reload = service.ballast.prepare_command(&["reload"]);
    let reload = thread::spawn(move || finish(reload));
    service.ballast.wait_for_log(&["handed over: "]);
    kill(service.successors()[0], Signal::SIGKILL).expect("the process runs");
    let end = reload.join().expect("the reload ends");
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains("serving again"), "{end:?}");
    assert!(end.stderr.contains("the successor has died"), "{end:?}");
    // The admin listener is open again, and the same reload succeeds.
    let probe = || {
        let response = Client::try_connect(admin)
            .and_then(|mut client| client.request("GET /ready HTTP/1.1\r\nHost: test\r\n\r\n"));
        response.is_ok_and(|response| response.status == 200)
    };
    wait_until(SOON, "the admin listener responds", probe);
    let end = service.ballast.reload();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.starts_with("reloaded, handover"), "{end:?}");
    wait_until(SOON, "the admin listener responds", probe);
}

#[test]
fn systemd_does_not_adopt_a_watched_successor() {
    let backend = Backend::start_new("a");
    let systemd = Notifications::bind();
    let ballast = systemd.spawn(&Setup::of(&[&backend]));
    assert_eq!(systemd.receive(), main_process(ballast.pid()));
    let service = Service::from_process(ballast);
    kill(begin_handover(&service), Signal::SIGKILL).expect("it runs");
    assert_eq!(systemd.receive(), main_process(service.ballast.pid()));
    // The successor had replaced the control socket.
    UnixStream::connect(service.ballast.path("control")).expect("it is open again");
    wait_until(SOON, "the pid file is right", || {
        service.serving() == service.ballast.pid()
    });
    let successor = begin_handover(&service);
    assert_eq!(systemd.receive(), main_process(successor));
}

#[test]
fn sigterm_during_the_watch_stops_the_service_or_the_predecessor() {
    let backend = Backend::start_new("a");
    // SIGTERM to the successor: both processes end, because the service is to stop.
    let mut service = Service::start(&Setup::of(&[&backend]));
    let successor = begin_handover(&service);
    kill(successor, Signal::SIGTERM).expect("the process runs");
    assert!(service.ballast.wait_exit(SOON).success());
    wait_until(SOON, "the successor is gone", || is_gone(successor));
    assert!(service.ballast.log_with(&["serving again"]).is_empty());
    assert!(!service.ballast.path("pid").exists());
    // SIGTERM to the predecessor: it ends, and the successor stays.
    let mut service = Service::start(&Setup::of(&[&backend]));
    let (before, successor) = (service.serving(), begin_handover(&service));
    kill(before, Signal::SIGTERM).expect("the process runs");
    assert!(service.ballast.wait_exit(SOON).success());
    assert_eq!(service.serving(), successor);
    assert_eq!(get(service.ballast.address(), "/").status, 200);
    kill(successor, Signal::SIGTERM).expect("the process runs");
    wait_until(SOON, "the successor is gone", || is_gone(successor));
}

#[test]
fn requests_of_the_predecessor_finish_although_its_successor_is_killed() {
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().after(Duration::from_secs(4)));
    let service = Service::start(&Setup::of(&[&backend]));
    let address = service.ballast.address();
    let slow = thread::spawn(move || get(address, "/").status);
    wait_until(SOON, "the request is at the host", || {
        backend.requests() == 1
    });
    kill(begin_handover(&service), Signal::SIGKILL).expect("the process runs");
    assert_eq!(slow.join().expect("a response"), 200);
}

#[test]
fn probes_use_any_listener_and_are_not_counted() {
    let backend = Backend::start_new("a");
    let admin = free();
    let others = [free(), free()];
    let setup = Setup::of(&[&backend])
        .top(&format!("admin: {{ address: \"{admin}\" }}"))
        .top("limits: { max_connections_per_client: 1 }")
        .top(&format!(
            "listeners: [\"{LISTEN}\", {{ address: \"{}\", proxy_protocol: {{ trusted: [192.0.2.1] }} }}, \
             {{ address: \"0.0.0.0:{}\", deny: [127.0.0.0/8] }}]",
            others[0],
            others[1].port()
        ));
    let service = Service::start(&setup);
    let before = service.hand_over();
    let served = get(service.ballast.address(), "/").status;
    assert_eq!(served, 200);
    wait_until(SOON, "the predecessor is gone", || is_gone(before));
    let mut metrics = String::new();
    wait_until(SOON, "the successor exports its metrics", || {
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let response = Client::try_connect(admin).and_then(|mut client| client.request(request));
        metrics = response.map_or_else(|_| String::new(), |response| response.text());
        !metrics.is_empty()
    });
    let accepted = metrics
        .lines()
        .filter(|line| line.starts_with("ballast_connections_total{"));
    let accepted: f64 = accepted
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(accepted <= 1.0, "{metrics}");
    assert!(
        service
            .ballast
            .log_with(&["no probe came through"])
            .is_empty()
    );
    for line in ["is not a trusted proxy", "no PROXY header"] {
        assert!(service.ballast.log_with(&[line]).is_empty());
    }
}
