//! The process or its machine runs out of a resource: the log reports it in one line, and no host is marked down for
//! it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Backend, Ballast, SOON, Setup, get, peer, wait_until};

/// Starts a process with at most `most` file descriptors, a limit that the process cannot raise.
fn with_descriptors(most: u64, yaml: &str) -> Ballast {
    let limited = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
    Ballast::spawn_with_wrapper(yaml, &["sh", "-c", &limited])
}

#[test]
fn a_start_with_too_few_descriptors_serves_or_prints_one_line_and_exits_1() {
    let backend = Backend::start_new("a");
    let mut refused = Vec::new();
    for threads in [1, 2] {
        let yaml = Setup::of(&[&backend])
            .top(&format!("server: {{ threads: {threads} }}"))
            .yaml();
        for most in (6..=80).step_by(if threads == 1 { 2 } else { 6 }) {
            let mut ballast = with_descriptors(most, &yaml);
            wait_until(SOON, &format!("{most}: it serves or ends"), || {
                !ballast.is_running() || ballast.listens()
            });
            if ballast.is_running() {
                assert_eq!(get(ballast.address(), "/").status, 200, "{most}");
            } else {
                let end = ballast.wait_exit(SOON);
                assert_eq!(end.code(), Some(1), "{most}: {:#?}", ballast.log());
                wait_until(SOON, "the line is read", || !ballast.log().is_empty());
                let log = ballast.log();
                assert_eq!(log.len(), 1, "{most}: {log:#?}");
                assert!(log[0].contains("LimitNOFILE"), "{most}: {log:#?}");
                assert!(log[0].contains(&format!("now {most}")), "{log:#?}");
                refused.push(most);
            }
            let panicked = ballast.log_with(&["panicked"]);
            assert!(panicked.is_empty(), "{most}: {panicked:#?}");
        }
    }
    assert!(refused.contains(&16), "{refused:?}");
    assert!(refused.iter().all(|most| *most < 60), "{refused:?}");
}

/// Accepts connections on every loopback address and closes them at once. Returns the port.
fn many_hosts() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    let port = listener.local_addr().expect("the socket is bound").port();
    thread::spawn(move || listener.incoming().for_each(drop));
    port
}

#[test]
fn three_hundred_hosts_are_checked_with_64_descriptors_and_none_goes_down() {
    let port = many_hosts();
    let mut setup = Setup::of(&[]).health("{ interval: 2s, timeout: 1s }");
    for number in 0..300 {
        let address = Ipv4Addr::new(127, 1, (number / 100) as u8, (number % 100 + 1) as u8);
        setup = setup.host(SocketAddr::from((address, port)));
    }
    let mut ballast = with_descriptors(64, &setup.yaml());
    assert!(ballast.listens_within(SOON + SOON), "{:#?}", ballast.log());
    wait_until(SOON, "all are up", || {
        ballast.log_with(&["is up"]).len() == 300
    });
    assert!(ballast.log_with(&["is down"]).is_empty());
    assert!(ballast.log_with(&["cannot be tried"]).len() <= 1);
}

#[test]
fn later_exhaustion_changes_no_host_state_and_logs_one_line() {
    let Some(prlimit) = peer("prlimit") else {
        return;
    };
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let ballast = Setup::of(&[&a, &b])
        .health("{ interval: 1s, timeout: 1s, rise: 1, fall: 1 }")
        .start();
    let pid = ballast.pid().to_string();
    let allow = |most: u64| {
        let limit = format!("--nofile={most}:");
        let set = Command::new(&prlimit)
            .args(["--pid", &pid, &limit])
            .status();
        assert!(set.expect("prlimit runs").success());
    };
    let down = ballast.log_with(&["is down"]).len();
    allow(8);
    let line = ballast.wait_for_log(&["health checks cannot be tried"]);
    assert!(line.contains("LimitNOFILE"), "{line}");
    assert!(line.contains("now 8"), "{line}");
    let begun = Instant::now();
    wait_until(SOON, "many checks could not be tried", || {
        begun.elapsed() > Duration::from_secs(3)
    });
    allow(1_024);
    let seen = (a.accepted(), b.accepted());
    wait_until(SOON, "the hosts are checked again", || {
        a.accepted() > seen.0 + 2 && b.accepted() > seen.1 + 2
    });
    assert_eq!(ballast.log_with(&["is down"]).len(), down);
    assert_eq!(ballast.log_with(&["cannot be tried"]).len(), 1);
    assert_eq!(get(ballast.address(), "/").status, 200);
}
