//! A successor dies or freezes right after it has begun to serve: its predecessor takes over again.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Notifications, Reign, is_gone, main_process, yaml};
use crate::support::{
    Backend, Client, Connections, LISTEN, Load, Reply, SOON, Setup, finish, free, get, wait_until,
};

/// The longest time that clients may wait while their process is frozen: the predecessor notices after 2.5 seconds, and
/// a busy machine adds some time.
const NOTICED: Duration = Duration::from_secs(15);

/// Begins a handover and returns the successor as soon as it serves.
#[track_caller]
fn begin(reign: &Reign) -> Pid {
    let known = reign.ballast.log_with(&["handed over: "]).len();
    reign.signal(Signal::SIGQUIT);
    wait_until(Duration::from_secs(30), "the successor serves", || {
        reign.ballast.log_with(&["handed over: "]).len() > known
    });
    *reign.successors().last().expect("it was started")
}

/// Ends or freezes the successor by `signal` under load.
#[track_caller]
fn lose_by(signal: Signal) {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]).health("{ interval: 1s }"));
    let address = reign.ballast.address();
    let before = reign.serving();
    let pace = Duration::from_millis(5);
    let kept = Load::start_paced(address, 4, Connections::Kept, pace);
    let fresh = Load::start_paced(address, 4, Connections::OnePerRequest, pace);
    let successor = begin(&reign);
    kill(successor, signal).expect("it runs");
    let lost = Instant::now();
    reign.ballast.wait_for_log(&["no handover, serving again"]);
    assert_eq!(get(address, "/").status, 200);
    assert!(lost.elapsed() < NOTICED, "{:?}", lost.elapsed());
    wait_until(SOON, "the pid file is right", || reign.serving() == before);
    assert!(is_gone(successor), "it would serve beside the other one");
    for (load, what) in [(kept, "kept"), (fresh, "fresh")] {
        let tally = load.stop();
        // The connections that the successor had accepted when it died: at most one request of each client.
        assert!(tally.errors.len() <= 4, "{what}: {:?}", tally.errors);
        let ok = tally.by_status.get(&200).copied().unwrap_or_default();
        assert_eq!(ok + tally.errors.len() as u64, tally.total(), "{what}");
        println!("{what}: {ok} answered, {} lost", tally.errors.len());
    }
    let kept = Load::start_paced(address, 4, Connections::Kept, pace);
    let mut client = Client::connect(address);
    for _ in 0..3 {
        let answer = client.get("/");
        assert!(!answer.head.has_token("connection", "close"));
    }
    // Commands and the next successor find everything at its place.
    let end = reign.ballast.reload();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.starts_with("reloaded, in-place"), "{end:?}");
    reign.hand_over();
    wait_until(SOON, "the predecessor is gone", || is_gone(before));
    kept.stop().assert_all_ok("after the successor was lost");
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn a_successor_that_is_killed_leaves_its_predecessor() {
    lose_by(Signal::SIGKILL);
}

#[test]
fn a_successor_that_freezes_leaves_its_predecessor() {
    lose_by(Signal::SIGSTOP);
}

#[test]
fn what_waits_to_be_accepted_is_served_by_the_predecessor() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let address = reign.ballast.address();
    let successor = begin(&reign);
    kill(successor, Signal::SIGSTOP).expect("it runs");
    wait_until(SOON, "it stands still", || {
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
        assert_eq!(client.join().expect("an answer"), 200);
    }
    assert!(start.elapsed() < NOTICED, "{:?}", start.elapsed());
}

#[test]
fn a_successor_started_by_hand_is_watched_as_well() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let mut successor = reign.ballast.successor();
    successor.wait_for_log(&["prepared; waiting"]);
    reign.signal(Signal::SIGQUIT);
    reign.ballast.wait_for_log(&["handed over: "]);
    successor.signal(Signal::SIGSTOP);
    reign
        .ballast
        .wait_for_log(&["no handover, serving again", "has not answered"]);
    assert!(!successor.wait_exit(SOON).success(), "it was killed");
    wait_until(SOON, "the pid file is right", || {
        reign.serving() == reign.ballast.pid()
    });
    assert_eq!(get(reign.ballast.address(), "/").status, 200);
}

#[test]
fn a_reload_tells_that_its_successor_was_lost() {
    let backend = Backend::start_new("a");
    let admin = free();
    let setup = Setup::of(&[&backend]).top(&format!("admin: {{ address: \"{admin}\" }}"));
    let reign = Reign::start(&setup);
    let address = reign.ballast.address();
    wait_until(SOON, "it takes commands", || {
        reign.ballast.path("control").exists()
    });
    let more = setup.top(&format!("listeners: [\"{LISTEN}\", \"{}\"]", free()));
    let more = yaml(&more).replace(LISTEN, &address.to_string());
    std::fs::write(reign.ballast.file(), more).expect("it can be written");
    let reload = reign.ballast.prepared(&["reload"]);
    let reload = thread::spawn(move || finish(reload));
    reign.ballast.wait_for_log(&["handed over: "]);
    kill(reign.successors()[0], Signal::SIGKILL).expect("it runs");
    let end = reload.join().expect("it ends");
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains("serving again"), "{end:?}");
    assert!(end.stderr.contains("the successor has died"), "{end:?}");
    // The admin listener is open again, and the same reload succeeds.
    let probe = || {
        let answer = Client::try_connect(admin)
            .and_then(|mut client| client.request("GET /ready HTTP/1.1\r\nHost: test\r\n\r\n"));
        answer.is_ok_and(|answer| answer.status == 200)
    };
    wait_until(SOON, "the admin listener answers", probe);
    let end = reign.ballast.reload();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.starts_with("reloaded, handover"), "{end:?}");
    wait_until(SOON, "the admin listener answers", probe);
}

#[test]
fn systemd_never_takes_a_successor_that_is_watched_for_the_main_process() {
    let backend = Backend::start_new("a");
    let systemd = Notifications::bind();
    let ballast = systemd.spawn(&Setup::of(&[&backend]));
    assert_eq!(systemd.receive(), main_process(ballast.pid()));
    let reign = Reign::of(ballast);
    kill(begin(&reign), Signal::SIGKILL).expect("it runs");
    assert_eq!(systemd.receive(), main_process(reign.ballast.pid()));
    // The successor had replaced the control socket.
    UnixStream::connect(reign.ballast.path("control")).expect("it is open again");
    wait_until(SOON, "the pid file is right", || {
        reign.serving() == reign.ballast.pid()
    });
    let successor = begin(&reign);
    assert_eq!(systemd.receive(), main_process(successor));
}

#[test]
fn a_sigterm_during_the_watch_ends_one_process_as_it_should() {
    let backend = Backend::start_new("a");
    // SIGTERM to the successor: both processes end, because the service was told to stop.
    let mut reign = Reign::start(&Setup::of(&[&backend]));
    let successor = begin(&reign);
    kill(successor, Signal::SIGTERM).expect("it runs");
    assert!(reign.ballast.wait_exit(SOON).success());
    wait_until(SOON, "the successor is gone", || is_gone(successor));
    assert!(reign.ballast.log_with(&["serving again"]).is_empty());
    assert!(!reign.ballast.path("pid").exists());
    // SIGTERM to the predecessor: it ends, and the successor stays.
    let mut reign = Reign::start(&Setup::of(&[&backend]));
    let (before, successor) = (reign.serving(), begin(&reign));
    kill(before, Signal::SIGTERM).expect("it runs");
    assert!(reign.ballast.wait_exit(SOON).success());
    assert_eq!(reign.serving(), successor);
    assert_eq!(get(reign.ballast.address(), "/").status, 200);
    kill(successor, Signal::SIGTERM).expect("it runs");
    wait_until(SOON, "the successor is gone", || is_gone(successor));
}

#[test]
fn requests_of_the_predecessor_run_on_while_it_watches_and_after_it_took_over() {
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().after(Duration::from_secs(4)));
    let reign = Reign::start(&Setup::of(&[&backend]));
    let address = reign.ballast.address();
    let slow = thread::spawn(move || get(address, "/").status);
    wait_until(SOON, "the request is at the host", || {
        backend.requests() == 1
    });
    kill(begin(&reign), Signal::SIGKILL).expect("it runs");
    assert_eq!(slow.join().expect("an answer"), 200);
}

#[test]
fn probes_come_through_any_listener_and_are_not_counted() {
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
    let reign = Reign::start(&setup);
    let before = reign.hand_over();
    let served = get(reign.ballast.address(), "/").status;
    assert_eq!(served, 200);
    wait_until(SOON, "the predecessor is gone", || is_gone(before));
    let mut metrics = String::new();
    wait_until(SOON, "the successor tells its metrics", || {
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answer = Client::try_connect(admin).and_then(|mut client| client.request(request));
        metrics = answer.map_or_else(|_| String::new(), |answer| answer.text());
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
        reign
            .ballast
            .log_with(&["no probe came through"])
            .is_empty()
    );
    for line in ["is not a trusted proxy", "no PROXY header"] {
        assert!(reign.ballast.log_with(&[line]).is_empty());
    }
}
