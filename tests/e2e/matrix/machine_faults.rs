//! Rows 27, 28, 30, 32, 34 and 35: the machine runs short of a resource, or its clock jumps.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::{GET, NO_EJECTION, Subject};
use crate::support::{
    Backend, Ballast, Client, Connections, DeadHost, HEALTH_PATH, Load, Next, Reply, SOON, Setup,
    allowed_descriptors, get, peer, wait_until,
};

/// Started by another program, which comes first in the command, with its arguments.
#[track_caller]
fn start_with_wrapper(setup: &Setup, through: &[&str]) -> Subject {
    let mut ballast = Ballast::spawn_with_wrapper(&setup.yaml(), through);
    assert!(ballast.listens_within(SOON), "{:?}", ballast.log());
    Subject::from_process(ballast)
}

#[test]
fn row_27_descriptors_exhausted() {
    let Some(prlimit) = peer("prlimit") else {
        return;
    };
    let host = Backend::start_new("a");
    let subject = Subject::start(&Setup::of(&[&host]));
    let mut inside = Client::connect(subject.address());
    assert_eq!(inside.get("/").status, 200);
    let status = Command::new(prlimit)
        .args([
            "--nofile=64:64",
            "--pid",
            &subject.ballast.pid().to_string(),
        ])
        .status();
    assert!(status.expect("prlimit runs").success());
    let start = Instant::now();
    let clients: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(subject.address()).expect("the kernel accepts it"))
        .collect();
    let words = ["WARN", "no connection can be accepted", "open files"];
    subject.ballast.wait_for_log(&words);
    for _ in 0..20 {
        assert_eq!(inside.get("/").status, 200, "open connections are served");
        thread::sleep(Duration::from_millis(50));
    }
    let lines = subject.ballast.log_with(&words).len() as u64;
    assert!(lines <= start.elapsed().as_secs() + 2, "{lines} lines");
    for stream in &clients {
        let _ = stream.shutdown(Shutdown::Both);
    }
    drop(clients);
    wait_until(SOON, "new clients are served again", || {
        let mut client = Client::connect(subject.address());
        client.set_read_timeout(Duration::from_millis(300));
        client
            .request(GET)
            .is_ok_and(|response| response.status == 200)
    });
    drop(inside);
    subject.settle(&[&host]);
}

/// Set if this test runs in its own network namespace.
const IN_OWN_NETWORK: &str = "BALLAST_TEST_IN_A_NETWORK_OF_ITS_OWN";

#[test]
fn row_28_ephemeral_ports_exhausted() {
    const SCRIPT: &str = "ip link set lo up && \
        echo 40000 40199 >/proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"";
    if std::env::var_os(IN_OWN_NETWORK).is_some() {
        return without_ephemeral_ports();
    }
    let (Some(unshare), Some(_)) = (peer("unshare"), peer("ip")) else {
        return;
    };
    let in_own_network = |then: &[&str]| {
        let mut command = Command::new(&unshare);
        command
            .args(["-rn", "--", "sh", "-c", SCRIPT, "sh"])
            .args(then)
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env(IN_OWN_NETWORK, "1");
        command.output().expect("unshare runs")
    };
    if !in_own_network(&["true"]).status.success() {
        println!("skipped: no right to make a network of its own");
        return;
    }
    let program = std::env::current_exe().expect("the program of the tests");
    let name = "matrix::machine_faults::row_28_ephemeral_ports_exhausted";
    let program = program.to_str().expect("a path in UTF-8");
    let end = in_own_network(&[program, "--exact", name, "--nocapture"]);
    let printed = String::from_utf8_lossy(&end.stdout);
    let errors = String::from_utf8_lossy(&end.stderr);
    assert!(end.status.success(), "{printed}{errors}");
    assert!(printed.contains("1 passed"), "{printed}{errors}");
}

fn without_ephemeral_ports() {
    const PORTS: usize = 200;
    const TOO_MANY: usize = 40;
    let host = Backend::start_new("a");
    let subject = Subject::start(&Setup::of(&[&host]).pool(NO_EJECTION));
    let address = subject.address();
    // Each of these requests waits for a permit.
    let permits = Arc::new(AtomicU64::new(0));
    let take = Arc::clone(&permits);
    host.set(Reply::script(move |head, wire| {
        let permitted = || {
            take.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok()
        };
        while head.word(1) == "/hold" && !permitted() {
            thread::sleep(Duration::from_millis(5));
        }
        wire.send("HTTP/1.1 200 OK\r\nX-Backend: a\r\nContent-Length: 0\r\n\r\n")?;
        Ok(Next::Keep)
    }));
    let (sender, receiver) = mpsc::channel();
    for number in 0..PORTS + TOO_MANY {
        let sender = sender.clone();
        let source = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2 + (number % 4) as u8));
        thread::spawn(move || {
            let status = Client::from_ip(source, address)
                .and_then(|mut client| client.request("GET /hold HTTP/1.1\r\nHost: test\r\n\r\n"))
                .map(|response| response.status);
            let _ = sender.send(status);
        });
    }
    let next = || {
        let outcome = receiver.recv_timeout(SOON).expect("a response in time");
        outcome.expect("a complete response")
    };
    // The kernel decides how many ports are left for the proxy: the ports of the clients come from the same range.
    let mut refused = Vec::new();
    wait_until(SOON, "all wait or are refused", || {
        refused.extend(
            receiver
                .try_iter()
                .map(|outcome| outcome.expect("a response")),
        );
        refused.len() + host.requests() as usize == PORTS + TOO_MANY
    });
    let held = host.requests();
    assert!(refused.len() >= TOO_MANY, "{held} held");
    assert!(refused.iter().all(|status| [502, 503].contains(status)));
    subject.ballast.wait_for_log(&["assign requested address"]);
    // An existing connection continues to serve.
    let before = host.connections();
    permits.store(1, Ordering::SeqCst);
    assert_eq!(next(), 200);
    for _ in 0..3 {
        assert_eq!(get(address, "/").status, 200);
    }
    assert_eq!(host.connections(), before);
    permits.store(held, Ordering::SeqCst);
    for _ in 1..held {
        assert_eq!(next(), 200);
    }
    assert_eq!(get(address, "/").status, 200);
    subject.settle(&[&host]);
}

/// Sends requests to a pool whose only host is dead, each of which is worth a log line, and then to a pool that works.
#[track_caller]
fn assert_served_with_log(subject: &Subject) {
    for _ in 0..200 {
        let mut client = Client::connect(subject.address());
        client.set_read_timeout(Duration::from_secs(5));
        let response = client.request("GET /dead HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(response.expect("the log blocks no request").status, 502);
        assert_eq!(client.get("/").status, 200);
    }
}

fn with_a_dead_pool(host: &Backend, dead: &DeadHost) -> Setup {
    Setup::of(&[host])
        .top("routes: [{ path: /dead, pool: dead }, { pool: web }]")
        .pool(NO_EJECTION)
        .pool(&format!(
            "\n  dead: {{ hosts: [\"{}\"], health_check: none, ejection: none }}",
            dead.address()
        ))
}

#[test]
fn row_30_log_on_a_full_disk() {
    let (host, dead) = (Backend::start_new("a"), DeadHost::new());
    let through = ["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"];
    let subject = start_with_wrapper(&with_a_dead_pool(&host, &dead), &through);
    assert_served_with_log(&subject);
    host.close_idle();
    subject.wait_for_initial_descriptors();
    subject.end();
}

#[test]
fn row_30_log_to_an_unread_pipe() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let pipe = folder.path().join("log");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    const NON_BLOCKING: i32 = 0o4000;
    let mut end = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(NON_BLOCKING)
        .open(&pipe)
        .expect("the pipe exists");
    let (host, dead) = (Backend::start_new("a"), DeadHost::new());
    let into = format!("exec \"$@\" 2>'{}'", pipe.display());
    let through = ["sh", "-c", &into, "sh"];
    let subject = start_with_wrapper(&with_a_dead_pool(&host, &dead), &through);
    while end.write(&[b'x'; 4096]).is_ok() {}
    assert_served_with_log(&subject);
    host.close_idle();
    subject.wait_for_initial_descriptors();
    subject.end();
}

/// The library that replaces the clock of a program, if it is installed.
fn faked_clock() -> Option<String> {
    let program = peer("faketime")?;
    let libraries = program.parent()?.parent()?.join("lib");
    let folders = fs::read_dir(&libraries).expect("the library is next to the program");
    let library = folders
        .filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|library| library.is_file());
    let library = library.expect("the library is next to the program");
    Some(library.display().to_string())
}

#[test]
fn row_32_wall_clock_jumps() {
    let Some(library) = faked_clock() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let offset = folder.path().join("offset");
    let jump = |to: &str| {
        let new = folder.path().join("new");
        fs::write(&new, to).expect("the folder can be written");
        fs::rename(new, &offset).expect("the folder can be written");
    };
    jump("+0");
    let hosts = ["a", "b"].map(Backend::start_new);
    let [preload, file] = [
        format!("LD_PRELOAD={library}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", offset.display()),
    ];
    let through = [
        "env",
        &preload,
        &file,
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    ];
    let setup = Setup::of(&hosts.each_ref())
        .health("{ interval: 400ms, timeout: 400ms }")
        .top(
            "routes: [{ path: /limited, pool: web, rate: { requests: 1, burst: 5, key: \"header:X-Limited\" } }, { pool: web }]",
        )
        .pool("sticky: { cookie: seat, ttl: 1h, secure: false }");
    let subject = start_with_wrapper(&setup, &through);
    let mut client = Client::connect(subject.address());
    wait_until(SOON, "the hosts are up", || client.get("/").status == 200);
    // As many requests as may run at once; the next one has to wait for a second of either clock.
    let mut limited = |key: &str| {
        let field = format!("X-Limited: {key}\r\n");
        (0..20)
            .filter(|_| client.get_with("/limited", &field).status == 200)
            .count()
    };
    let hour = || subject.ballast.reload_by_sighup(&setup.yaml())[..14].to_owned();
    for (number, to) in ["+3600", "-3600", "+0"].into_iter().enumerate() {
        let time = hour();
        let before = hosts.each_ref().map(Backend::accepted);
        let load = Load::start(subject.address(), 4, Connections::Kept);
        assert!(
            (5..=8).contains(&limited(&format!("before {number}"))),
            "{to}"
        );
        jump(to);
        let after = limited(&format!("before {number}"));
        assert!(after <= 4, "the jump by {to} brought {after}");
        wait_until(SOON, "the checks go on", || {
            hosts
                .iter()
                .zip(before)
                .all(|(host, before)| host.accepted() > before + 6)
        });
        load.stop().assert_all_ok(to);
        assert_ne!(hour(), time, "the log shows that the clock has jumped");
    }
    let down = subject.ballast.log_with(&["is down"]);
    assert!(down.is_empty(), "{down:?}");
    drop(client);
    subject.settle(&hosts.each_ref());
}

/// Busy loops, all on the first processor, until dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn start(taskset: &Path, count: usize) -> Self {
        let busy = |_| {
            Command::new(taskset)
                .args(["-c", "0", "sh", "-c", "while :; do :; done"])
                .spawn()
                .expect("taskset runs")
        };
        Busy((0..count).map(busy).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn row_34_processor_exhausted() {
    let Some(taskset) = peer("taskset") else {
        return;
    };
    let hosts = ["a", "b", "c"].map(Backend::start_new);
    let setup = Setup::of(&hosts.each_ref()).health(&format!(
        "{{ type: http, path: {HEALTH_PATH}, interval: 200ms, timeout: 100ms, rise: 1, fall: 2 }}"
    ));
    let subject = start_with_wrapper(&setup, &["taskset", "-c", "0"]);
    wait_until(SOON, "the hosts are up", || {
        get(subject.address(), "/").status == 200
    });
    let busy = Busy::start(&taskset, 4);
    let load = Load::start(subject.address(), 200, Connections::Kept);
    let before = hosts.each_ref().map(Backend::health_checks);
    wait_until(SOON * 3, "all hosts are checked again and again", || {
        hosts
            .iter()
            .zip(before)
            .all(|(host, before)| host.health_checks() >= before + 10)
    });
    load.stop().assert_all_ok("without a processor to spare");
    drop(busy);
    let down = subject.ballast.log_with(&["is down"]);
    assert!(down.is_empty(), "{down:?}");
    subject.settle(&hosts.each_ref());
}

/// A connection that is being opened: a write waits until it is established.
fn begin(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
    socket.set_nonblocking(true).expect("a socket");
    // The kernel reports a connection in progress as an error.
    let _ = socket.connect(&address.into());
    socket.set_nonblocking(false).expect("a socket");
    socket.set_read_timeout(Some(SOON * 8)).expect("a timeout");
    socket.into()
}

#[test]
fn row_35_thousands_of_connections_at_once() {
    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let count = allowed_descriptors(5_000);
    if count < 5_000 {
        println!("scaled down to {count} connections by the limit of descriptors");
    }
    let host = Backend::start_new("a");
    // The host uses threads.
    let setup = Setup::of(&[&host])
        .top(&format!("limits: {{ max_connections: {} }}", count + 10))
        .pool("limits: { max_in_flight: 50, queue: 5000, queue_timeout: 5m }");
    let subject = Subject::start(&setup);
    let start = Instant::now();
    let mut clients: Vec<TcpStream> = (0..count).map(|_| begin(subject.address())).collect();
    for stream in &mut clients {
        stream.write_all(REQUEST.as_bytes()).expect("connected");
    }
    for stream in clients {
        let mut wire = crate::support::Wire::new(stream);
        let head = wire.read_head().expect("a response").expect("a response");
        assert_eq!(head.word(1), "200");
    }
    println!("{count} connections at once: {:?}", start.elapsed());
    assert_eq!(host.requests(), count);
    subject.settle(&[&host]);
}
