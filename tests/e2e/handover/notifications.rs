//! What a handover notifies: the pid file, systemd, readiness probes, and clients of the draining process.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Service, is_gone, yaml};
use crate::support::{Backend, Ballast, Client, SOON, Setup, free, get, wait_until};

#[test]
fn an_idle_predecessor_exits_within_five_seconds() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let mut idle = Client::connect(service.ballast.address());
    idle.get("/");
    let before = service.hand_over();
    wait_until(Duration::from_secs(5), "the predecessor is gone", || {
        is_gone(before)
    });
    assert!(idle.is_closed_within(SOON), "closed, not reset");
}

#[test]
fn connections_of_a_draining_process_get_a_last_response_with_close() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let mut used = Client::connect(service.ballast.address());
    used.get("/");
    let mut unused = Client::connect(service.ballast.address());
    let mut unfinished = Client::connect(service.ballast.address());
    unfinished
        .send("GET / HTTP/1.1\r\nHo")
        .expect("the connection is open");
    // The predecessor has accepted the connections once it has served a later one.
    get(service.ballast.address(), "/");
    service.hand_over();
    for client in [&mut used, &mut unused] {
        let response = client.get("/");
        assert!(response.head.has_token("connection", "close"));
    }
    let response = unfinished.request("st: test\r\n\r\n").expect("a response");
    assert_eq!(response.status, 200);
    assert!(
        !get(service.ballast.address(), "/")
            .head
            .has_token("connection", "close")
    );
}

#[test]
fn readiness_probes_succeed_during_a_handover() {
    let backend = Backend::start_new("a");
    let admin = free();
    let service =
        Service::start(&Setup::of(&[&backend]).top(&format!("admin: {{ address: \"{admin}\" }}")));
    let probe = || {
        let mut client = Client::try_connect(admin).ok()?;
        let response = client.request("GET /ready HTTP/1.1\r\nHost: test\r\n\r\n");
        Some(response.ok()?.status)
    };
    wait_until(SOON, "the process is ready", || probe() == Some(200));
    let before = service.serving();
    service.signal(Signal::SIGQUIT);
    wait_until(SOON, "the predecessor is gone", || {
        assert_eq!(probe(), Some(200));
        is_gone(before)
    });
    assert_ne!(service.serving(), before);
}

#[test]
fn the_pid_file_is_removed_at_exit() {
    let backend = Backend::start_new("a");
    for (signal, code) in [(Signal::SIGTERM, 0), (Signal::SIGINT, 0)] {
        let mut service = Service::start(&Setup::of(&[&backend]));
        assert_eq!(service.serving(), service.ballast.pid());
        service.signal(signal);
        assert_eq!(service.ballast.wait_exit(SOON).code(), Some(code));
        assert!(!service.ballast.path("pid").exists());
        assert!(!service.ballast.path("run/upgrade").exists());
    }
}

#[test]
fn systemd_is_notified_of_the_serving_process() {
    let backend = Backend::start_new("a");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("the folder can be written");
    systemd.set_read_timeout(Some(SOON)).expect("not zero");
    let receive = || {
        let mut text = [0; 256];
        let length = systemd.recv(&mut text).expect("a notification");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    let ballast = Ballast::spawn_with(&yaml(&Setup::of(&[&backend])), &[&variable]);
    let ready = |pid| format!("MAINPID={pid}\nREADY=1");
    assert_eq!(receive(), ready(ballast.pid()));
    let service = Service::from_process(ballast);
    service.signal(Signal::SIGHUP);
    let reloading = receive();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(
        since.is_some_and(|since| since.parse::<u64>().is_ok()),
        "{reloading}"
    );
    assert_eq!(receive(), "READY=1");
    service.hand_over();
    assert_eq!(receive(), ready(service.serving()));
    service.signal(Signal::SIGTERM);
    assert_eq!(receive(), "STOPPING=1");
}
