//! A client that leaves ends its request at any stage: its place and its host connection are free at once, the host is
//! not blamed, and the request is recorded as `client_gone`.

mod kinds;

use std::time::Duration;

use serde_json::{Value, json};

use kinds::{Guest, HTTP2, KINDS, Kind, PLAIN, TLS};

use crate::support::http2::Secure;
use crate::support::{
    Backend, Ballast, Client, FullHost, Head, LISTEN, Next, Reply, SOON, Setup, Wire, get,
    wait_for, wait_until,
};

/// The longest time until Ballast notices a leaving client on a busy machine. Every timeout of these tests is longer.
const NOTICED: Duration = Duration::from_secs(9);

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const LINE_OF_ONE: &str = "limits: { max_in_flight: 1, queue: 1, queue_timeout: 50s }";

/// One failure ejects, so that any blame shows.
const STRICT: &str = "ejection: { consecutive: 1, base: 1m }";

/// Ballast with a log and with the listener that this kind of client needs.
struct House {
    ballast: Ballast,
    secure: Option<Secure>,
}

impl House {
    fn start(setup: Setup, kind: Kind) -> Self {
        let secure = (!PLAIN.contains(&kind)).then(Secure::new);
        let setup = setup.top("access_log: { path: access.log, format: json }");
        let setup = match &secure {
            Some(secure) => setup.top(&secure.listeners()),
            None => setup.top(&format!("listeners: [\"{LISTEN}\"]")),
        };
        House {
            ballast: setup.start(),
            secure,
        }
    }

    fn guest(&self, kind: Kind) -> Guest {
        Guest::enter(self.ballast.address(), self.secure.as_ref(), kind)
    }

    /// The endings in the log so far.
    fn endings(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.ballast.path("access.log")).unwrap_or_default();
        let lines = text.lines().map(|line| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            line["ending"].clone()
        });
        lines.collect()
    }

    fn has(&self, ending: &str) -> bool {
        self.endings().contains(&json!(ending))
    }

    fn waiting(&self, count: usize) -> bool {
        let told = self.ballast.command(&["status"]).stdout;
        match count {
            0 => !told.contains(" waiting"),
            count => told.contains(&format!("{count} waiting")),
        }
    }

    /// The request is recorded once, with a client that left, and no host is blamed.
    #[track_caller]
    fn noticed(&self, kind: Kind) {
        wait_until(NOTICED, &format!("{kind:?} is noticed"), || {
            !self.endings().is_empty()
        });
        let gone = self.endings();
        let gone = gone.iter().filter(|ending| **ending == "client_gone");
        assert_eq!(gone.count(), 1, "{kind:?}");
        assert!(self.ballast.log_with(&["ejected"]).is_empty(), "{kind:?}");
    }
}

#[track_caller]
fn left(host: &Backend, kind: Kind) {
    wait_until(NOTICED, &format!("the host is left by {kind:?}"), || {
        host.open_connections() == 0
    });
}

#[test]
fn in_the_queue() {
    for kind in KINDS {
        let host = Backend::start_new("a");
        host.set(Reply::Hang);
        let setup = Setup::of(&[&host]).pool(LINE_OF_ONE).pool(STRICT);
        let house = House::start(setup, kind);
        let mut first = house.guest(kind);
        first.get();
        wait_until(SOON, "the first runs", || host.requests() == 1);
        let mut guest = house.guest(kind);
        guest.get();
        wait_until(SOON, "the guest waits in line", || house.waiting(1));
        let _end = guest.leave();
        house.noticed(kind);
        wait_until(NOTICED, "its place is free", || house.waiting(0));
        // The next request gets the place, and then the host.
        let mut next = house.guest(kind);
        next.get();
        wait_until(SOON, "the next waits in line", || house.waiting(1));
        host.set(Reply::ok());
        let _end = first.leave();
        next.answer();
        assert_eq!(host.requests(), 2, "{kind:?}: the guest's never came");
    }
}

#[test]
fn in_the_queue_amid_an_upload() {
    for kind in KINDS {
        let host = Backend::start_new("a");
        host.set(Reply::Hang);
        let setup = Setup::of(&[&host]).pool(LINE_OF_ONE).pool(STRICT);
        let house = House::start(setup, kind);
        let mut first = house.guest(kind);
        first.get();
        wait_until(SOON, "the first runs", || host.requests() == 1);
        let mut guest = house.guest(kind);
        guest.begin_upload();
        wait_until(SOON, "the guest waits in line", || house.waiting(1));
        let _end = guest.leave();
        house.noticed(kind);
        wait_until(NOTICED, "its place is free", || house.waiting(0));
        assert_eq!(host.requests(), 1, "{kind:?}");
    }
}

#[test]
fn while_a_host_is_connected_to() {
    for kind in KINDS {
        let full = FullHost::new();
        // Over HTTP/2, Ballast notices when the attempt to connect has ended.
        let connect = if HTTP2.contains(&kind) { "2s" } else { "50s" };
        let setup = Setup::of(&[])
            .host(full.address())
            .top(&format!("timeouts: {{ connect: {connect} }}"))
            .pool("retries: none")
            .pool(STRICT);
        let house = House::start(setup, kind);
        let mut guest = house.guest(kind);
        guest.get();
        // No other limit could keep the place taken.
        assert_eq!(guest.status_within(Duration::from_secs(1)), None);
        let _end = guest.leave();
        house.noticed(kind);
    }
}

#[test]
fn while_the_host_is_at_work() {
    for kind in KINDS {
        let host = Backend::start_new("a");
        host.set(Reply::Hang);
        let house = House::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut guest = house.guest(kind);
        guest.get();
        wait_until(SOON, "it arrives", || host.requests() == 1);
        let _end = guest.leave();
        left(&host, kind);
        house.noticed(kind);
        assert_eq!(host.requests(), 1);
    }
}

#[test]
fn in_a_further_attempt() {
    for kind in KINDS {
        let broken = Backend::start_new("a");
        broken.set(Reply::Reset);
        let full = FullHost::new();
        let connect = if HTTP2.contains(&kind) { "2s" } else { "50s" };
        let setup = Setup::of(&[&broken])
            .host(full.address())
            .top(&format!("timeouts: {{ connect: {connect} }}"))
            .pool("ejection: none");
        let house = House::start(setup, kind);
        let mut guest = house.guest(kind);
        guest.get();
        // Every second request begins with the host that fails it.
        while broken.requests() == 0 {
            assert_eq!(guest.status_within(Duration::from_secs(1)), None);
            if broken.requests() == 0 {
                guest = house.guest(kind);
                guest.get();
            }
        }
        let before = house.endings().len();
        let _end = guest.leave();
        wait_until(NOTICED, &format!("{kind:?} is noticed"), || {
            house.endings().len() > before && house.has("client_gone")
        });
        assert_eq!(broken.requests(), 1, "{kind:?}");
    }
}

#[test]
fn amid_the_answer() {
    for kind in KINDS {
        let host = Backend::start_new("a");
        host.set(Reply::script(|_, wire| {
            // More than Ballast collects before it writes.
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
            wire.send("x".repeat(50_000))?;
            while !wire.read_some(1_024)?.is_empty() {}
            Ok(Next::Close)
        }));
        let house = House::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut guest = house.guest(kind);
        guest.get();
        assert_eq!(guest.status(), Some(200), "{kind:?}");
        let _end = guest.leave();
        left(&host, kind);
        house.noticed(kind);
    }
}

#[test]
fn amid_an_answer_that_it_does_not_read() {
    for kind in PLAIN.into_iter().chain(TLS) {
        let host = Backend::start_new("a");
        host.set(Reply::ok().body(vec![b'x'; 40 << 20]));
        let house = House::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut guest = house.guest(kind);
        guest.get();
        assert_eq!(guest.status(), Some(200), "{kind:?}");
        let _end = guest.leave();
        left(&host, kind);
        house.noticed(kind);
    }
}

#[test]
fn amid_an_upload() {
    for kind in KINDS {
        let host = Backend::start_new("a");
        host.set(Reply::Hang);
        let house = House::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut guest = house.guest(kind);
        guest.begin_upload();
        wait_until(SOON, "it arrives", || host.requests() == 1);
        let _end = guest.leave();
        left(&host, kind);
        house.noticed(kind);
    }
}

#[test]
fn amid_a_tunnel() {
    for kind in PLAIN.into_iter().chain(TLS) {
        let host = Backend::start_new("a");
        host.set(tunnel());
        let house = House::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut guest = house.guest(kind);
        guest.send(
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        assert_eq!(guest.status(), Some(101), "{kind:?}");
        let _end = guest.leave();
        left(&host, kind);
        wait_until(NOTICED, "it is told of", || house.endings().len() == 1);
        // Tunnels normally end with an orderly close.
        assert!(
            house.has("client_gone") || house.has("complete"),
            "{kind:?}: {:?}",
            house.endings()
        );
        assert!(house.ballast.log_with(&["ejected"]).is_empty(), "{kind:?}");
    }
}

#[test]
fn with_requests_behind_the_running_one() {
    for kind in PLAIN {
        let host = Backend::start_new("a");
        host.set(Reply::Hang);
        let house = House::start(Setup::of(&[&host]).pool(STRICT), kind);
        let mut guest = house.guest(kind);
        guest.send(&GET.repeat(50));
        wait_until(SOON, "the first arrives", || host.requests() == 1);
        let _end = guest.leave();
        left(&host, kind);
        house.noticed(kind);
        assert_eq!(host.requests(), 1, "{kind:?}");
    }
}

#[test]
fn a_guest_that_has_gone_proves_no_host_and_takes_nothing_from_the_budget() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let ejection = "ejection: { consecutive: 1, base: 1s, rate: 0% }";
    let setup = Setup::of(&[&good, &bad])
        .pool(ejection)
        .pool("retries: none");
    let house = House::start(setup.pool("slow_start: none"), Kind::Fin);
    let address = house.ballast.address();
    bad.set(Reply::status(500));
    wait_until(SOON, "it is ejected", || {
        get(address, "/");
        !house.ballast.log_with(&["is ejected for"]).is_empty()
    });
    bad.set(Reply::Hang);
    let before = bad.requests();
    let guest = wait_for(SOON, "a request that is to prove it", || {
        let mut guest = house.guest(Kind::Fin);
        guest.get();
        let answer = guest.status_within(Duration::from_secs(1));
        (answer.is_none() && bad.requests() > before).then_some(guest)
    });
    let _end = guest.leave();
    wait_until(NOTICED, "it has gone", || house.has("client_gone"));
    let told = |part: &str| !house.ballast.log_with(&[part]).is_empty();
    assert!(!told("stays ejected") && !told("is no longer ejected"));
    // Another request has to bring the host back.
    bad.set(Reply::ok());
    wait_until(SOON, "it is back", || {
        get(address, "/");
        told("is no longer ejected")
    });
}

#[test]
fn those_who_stay_are_served_as_ever() {
    let host = Backend::start_new("a");
    host.set(Reply::ok().after(Duration::from_millis(50)));
    let house = House::start(Setup::of(&[&host]), Kind::Fin);
    let address = house.ballast.address();
    let mut kept = Client::connect(address);
    for _ in 0..5 {
        assert_eq!(kept.get("/").status, 200);
        assert_eq!(kept.get_with("/", "Connection: close\r\n").status, 200);
        let mut old = Client::connect(address);
        let answer = old.request("GET / HTTP/1.0\r\n\r\n").expect("whole");
        assert_eq!((answer.status, answer.text().as_str()), (200, "a\n"));
    }
    let mut eager = Client::connect(address);
    eager.send(GET.repeat(100)).expect("sent");
    for _ in 0..100 {
        assert_eq!(eager.read_response(false).expect("whole").status, 200);
    }
    assert!(house.endings().iter().all(|ending| ending == "complete"));
}

#[test]
fn half_close_serve_keeps_those_who_only_stop_sending() {
    let host = Backend::start_new("a");
    let setup = Setup::of(&[&host]).pool(LINE_OF_ONE);
    let serve = setup.clone().top("half_close: serve");
    let house = House::start(setup, Kind::Fin);
    host.set(Reply::Hang);
    let half = || {
        let mut client = Client::connect(house.ballast.address());
        client.send(GET).expect("sent");
        client.finish_sending();
        client
    };
    assert!(half().is_closed_within(NOTICED));
    // With an in-place reload, which also applies to existing connections.
    let log = "access_log: { path: access.log, format: json }";
    let listen = format!("listeners: [\"{LISTEN}\"]");
    let line = house.ballast.hang_up(&serve.top(log).top(&listen).yaml());
    assert!(line.contains("half_close changed"), "{line}");
    host.set(Reply::ok().after(Duration::from_millis(200)));
    let (mut first, mut second) = (half(), half());
    for client in [&mut first, &mut second] {
        assert_eq!(client.read_response(false).expect("whole").text(), "a\n");
        assert!(client.is_closed_within(SOON));
    }
    // A client that breaks the connection counts as one that left.
    host.set(Reply::Hang);
    let before = host.requests();
    let mut broken = house.guest(Kind::Reset);
    broken.get();
    wait_until(SOON, "it arrives", || host.requests() > before);
    let _end = broken.leave();
    left(&host, Kind::Reset);
}

fn tunnel() -> Reply {
    Reply::script(|_: &Head, wire: &mut Wire| {
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )?;
        while !wire.read_some(1_024)?.is_empty() {}
        Ok(Next::Close)
    })
}
