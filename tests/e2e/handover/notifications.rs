//! How a handover shows outside: the pid file, systemd, and clients whose process ends.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Reign, is_gone, yaml};
use crate::support::{Backend, Ballast, Client, SOON, Setup, free, get, wait_until};

#[test]
fn an_idle_predecessor_is_gone_within_five_seconds() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let mut idle = Client::connect(reign.ballast.address());
    idle.get("/");
    let before = reign.hand_over();
    wait_until(Duration::from_secs(5), "the predecessor is gone", || {
        is_gone(before)
    });
    assert!(idle.is_closed_within(SOON), "closed, not reset");
}

#[test]
fn connections_of_a_draining_process_get_their_answer_and_hear_that_it_is_the_last() {
    let backend = Backend::start_new("a");
    let reign = Reign::start(&Setup::of(&[&backend]));
    let mut used = Client::connect(reign.ballast.address());
    used.get("/");
    let mut unused = Client::connect(reign.ballast.address());
    let mut begun = Client::connect(reign.ballast.address());
    begun.send("GET / HTTP/1.1\r\nHo").expect("it is open");
    // The predecessor has accepted the connections once it has served a later one.
    get(reign.ballast.address(), "/");
    reign.hand_over();
    for client in [&mut used, &mut unused] {
        let answer = client.get("/");
        assert!(answer.head.has_token("connection", "close"));
    }
    let answer = begun.request("st: test\r\n\r\n").expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(
        !get(reign.ballast.address(), "/")
            .head
            .has_token("connection", "close")
    );
}

#[test]
fn probes_of_the_service_hear_that_it_is_ready_all_along() {
    let backend = Backend::start_new("a");
    let admin = free();
    let reign =
        Reign::start(&Setup::of(&[&backend]).top(&format!("admin: {{ address: \"{admin}\" }}")));
    let probe = || {
        let mut client = Client::try_connect(admin).ok()?;
        let answer = client.request("GET /ready HTTP/1.1\r\nHost: test\r\n\r\n");
        Some(answer.ok()?.status)
    };
    wait_until(SOON, "it is ready", || probe() == Some(200));
    let before = reign.serving();
    reign.signal(Signal::SIGQUIT);
    wait_until(SOON, "the predecessor is gone", || {
        assert_eq!(probe(), Some(200));
        is_gone(before)
    });
    assert_ne!(reign.serving(), before);
}

#[test]
fn the_pid_file_goes_with_the_process() {
    let backend = Backend::start_new("a");
    for (signal, code) in [(Signal::SIGTERM, 0), (Signal::SIGINT, 0)] {
        let mut reign = Reign::start(&Setup::of(&[&backend]));
        assert_eq!(reign.serving(), reign.ballast.pid());
        reign.signal(signal);
        assert_eq!(reign.ballast.wait_exit(SOON).code(), Some(code));
        assert!(!reign.ballast.path("pid").exists());
        assert!(!reign.ballast.path("run/upgrade").exists());
    }
}

#[test]
fn systemd_hears_who_serves() {
    let backend = Backend::start_new("a");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("the folder can be written");
    systemd.set_read_timeout(Some(SOON)).expect("not zero");
    let hear = || {
        let mut text = [0; 256];
        let length = systemd.recv(&mut text).expect("a notification");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    let ballast = Ballast::spawn_with(&yaml(&Setup::of(&[&backend])), &[&variable]);
    let ready = |pid| format!("MAINPID={pid}\nREADY=1");
    assert_eq!(hear(), ready(ballast.pid()));
    let reign = Reign::of(ballast);
    reign.signal(Signal::SIGHUP);
    let reloading = hear();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(
        since.is_some_and(|since| since.parse::<u64>().is_ok()),
        "{reloading}"
    );
    assert_eq!(hear(), "READY=1");
    reign.hand_over();
    assert_eq!(hear(), ready(reign.serving()));
    reign.signal(Signal::SIGTERM);
    assert_eq!(hear(), "STOPPING=1");
}
