//! Limits on what clients may use: connections, requests per connection, memory, file descriptors.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::admin::with_admin;
use crate::support::{
    Backend, Ballast, Client, Reply, SOON, Setup, TlsSite, allowed_descriptors, get, wait_until,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

fn connect_from(source: &str, address: SocketAddr) -> Client {
    let source: IpAddr = source.parse().expect("an address");
    Client::from_ip(source, address).expect("the kernel accepts the connection")
}

/// Whether the client gets a response within 300 ms.
fn is_served(client: &mut Client) -> bool {
    client.set_read_timeout(Duration::from_millis(300));
    let served = client.read_response(false).is_ok();
    client.set_read_timeout(SOON);
    served
}

/// A value of `/proc/PID/status`, in bytes.
fn memory_per_connection(ballast: &Ballast, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", ballast.pid()));
    let status = status.expect("the process runs");
    let line = status.lines().find(|line| line.starts_with(figure));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.expect("the kernel reports it") * 1_024
}

#[test]
fn connections_over_the_limit_wait_to_be_accepted() {
    let backend = Backend::start_new("a");
    let setup =
        |most| Setup::of(&[&backend]).top(&format!("limits: {{ max_connections: {most} }}"));
    let ballast = setup(2).start();
    let mut first = Client::connect(ballast.address());
    assert_eq!(first.get("/").status, 200);
    let mut second = Client::connect(ballast.address());
    assert_eq!(second.get("/").status, 200);
    let mut third = Client::connect(ballast.address());
    third.send(GET).expect("the kernel accepts it");
    assert!(!is_served(&mut third));
    ballast.wait_for_log(&["WARN", "2 connections are open"]);
    assert_eq!(first.get("/").status, 200, "open connections are served");
    drop(first);
    assert_eq!(third.read_response(false).expect("a response").status, 200);
    // A reload that raises the limit makes room as well.
    let mut fourth = Client::connect(ballast.address());
    fourth.send(GET).expect("the kernel accepts it");
    assert!(!is_served(&mut fourth));
    let outcome = ballast.reload_by_sighup(&setup(3).yaml());
    assert!(outcome.contains("reloaded"), "{outcome}");
    assert_eq!(fourth.read_response(false).expect("a response").status, 200);
    let lines = ballast.log_with(&["connections are open"]).len();
    assert!(lines <= 4, "{lines} lines");
}

#[test]
fn one_client_cannot_take_all_connections() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("limits: { max_connections_per_client: 2 }")
        .start();
    let connect = || connect_from("127.0.0.2", ballast.address());
    let (mut first, mut second) = (connect(), connect());
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    let mut third = connect();
    assert!(third.is_closed_within(SOON));
    assert_eq!(
        connect_from("127.0.0.3", ballast.address()).get("/").status,
        200
    );
    drop(first);
    wait_until(SOON, "its slot is free", || {
        connect()
            .request(GET)
            .is_ok_and(|response| response.status == 200)
    });
}

#[test]
fn handshakes_beyond_the_limit_are_refused_and_counted() {
    let site = TlsSite::new();
    let setup = site.setup("").top("limits: { max_handshakes: 2 }");
    let (setup, admin) = with_admin(setup);
    let ballast = setup.start();
    let address = ballast.address();
    let metric = |series: &str| {
        let mut client = Client::connect(admin);
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let metrics = client.request(request).expect("a response").text();
        let value = metrics.lines().find_map(|line| line.strip_prefix(series));
        value.map_or(0, |value| value.trim().parse().expect("a number"))
    };
    let in_progress = || metric("ballast_tls_handshakes_in_progress");
    let begin = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(address).expect("connected");
        socket.write_all(bytes).expect("sent");
        socket
    };
    // Connections of which nothing has come do not count.
    let _silent = [(); 3].map(|()| begin(b""));
    let begun = [(); 2].map(|()| begin(b"\x16\x03\x01"));
    wait_until(SOON, "both have begun", || in_progress() == 2);
    let tls = || Client::tls(address, "a.test", site.servers.client());
    let request =
        |client: std::io::Result<Client>| client?.request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert!(request(tls()).is_err());
    let refused = "ballast_tls_handshakes_total{outcome=\"limit\",version=\"\"}";
    wait_until(SOON, "it is counted", || metric(refused) == 1);
    drop(begun);
    wait_until(SOON, "both have ended", || in_progress() == 0);
    assert_eq!(request(tls()).expect("a response").status, 200);
}

#[test]
fn the_last_response_of_a_connection_has_connection_close() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("limits: { max_requests_per_connection: 3 }")
        .start();
    let mut client = Client::connect(ballast.address());
    for number in 1..=3 {
        let response = client.get("/");
        assert_eq!(response.status, 200);
        assert_eq!(response.head.has_token("connection", "close"), number == 3);
    }
    assert!(client.is_closed_within(SOON));
}

#[test]
fn a_connection_serves_a_thousand_requests_by_default() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    for number in 1..=1_000 {
        let response = client.get("/");
        assert_eq!(
            response.head.has_token("connection", "close"),
            number == 1_000
        );
    }
    assert!(client.is_closed_within(SOON));
}

#[test]
fn a_hundred_overlong_heads_use_little_memory() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    assert_eq!(get(ballast.address(), "/").status, 200);
    let before = memory_per_connection(&ballast, "VmRSS");
    let clients = (0..100).map(|_| {
        let address = ballast.address();
        thread::spawn(move || {
            let mut stream = TcpStream::connect(address).expect("connected");
            stream.write_all(GET.as_bytes()).expect("sent");
            let mut response = [0; 15];
            stream.read_exact(&mut response).expect("a response");
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nX: ");
            let _ = stream.write_all(&vec![b'x'; 1 << 20]);
            stream
        })
    });
    let clients: Vec<_> = clients.collect();
    let open: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
    let grown = memory_per_connection(&ballast, "VmHWM").saturating_sub(before);
    println!("100 heads of 1 MB: {} KiB more at most", grown >> 10);
    assert!(grown < 10 << 20, "{grown} bytes");
    drop(open);
}

/// The bounds that the documentation states, in bytes: of an idle connection between two requests, and of a
/// connection that has sent nearly a whole head of the maximum size.
const IDLE: u64 = 48 << 10;
const STALLED: u64 = 96 << 10;

#[test]
fn row_29_idle_and_stalled_connections_stay_within_the_documented_memory() {
    let idle = allowed_descriptors(11_000) * 10 / 11;
    if idle < 10_000 {
        println!("scaled down to {idle} idle connections by the limit of descriptors");
    }
    let stalled = idle / 10;
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().body("a"));
    let ballast = Setup::of(&[&backend])
        .top("timeouts: { client_head: 5m, client_keepalive: 5m }")
        .top(&format!(
            "limits: {{ max_connections: {} }}",
            idle + stalled + 10
        ))
        .start();
    let start = Instant::now();
    let open = |count: u64, then: &[u8]| -> Vec<TcpStream> {
        let connections = (0..count).map(|_| {
            let mut stream = TcpStream::connect(ballast.address()).expect("connected");
            stream.write_all(GET.as_bytes()).expect("sent");
            // Reads the whole response. Its body is the backend's name.
            let mut response = Vec::new();
            let mut bytes = [0; 512];
            while !response.ends_with(b"\r\n\r\na") {
                let count = stream.read(&mut bytes).expect("a response");
                assert!(count > 0, "closed");
                response.extend_from_slice(&bytes[..count]);
            }
            stream.write_all(then).expect("sent");
            stream
        });
        connections.collect()
    };
    // The first 300 connections allocate what the process needs for that many requests at once, so that the figures
    // do not include it.
    drop(open(300, b""));
    let begin = memory_per_connection(&ballast, "VmRSS");
    let resting = open(idle, b"");
    let each = memory_per_connection(&ballast, "VmRSS").saturating_sub(begin) / idle;
    println!(
        "{idle} idle connections: {each} bytes each, {:?}",
        start.elapsed()
    );
    let begin = memory_per_connection(&ballast, "VmRSS");
    let head = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 31 << 10]].concat();
    let stalled_clients = open(stalled, &head);
    // A response on a newer connection shows that the process has read the bytes of all earlier ones.
    let mut last = Client::connect(ballast.address());
    assert_eq!(last.get("/").status, 200);
    let each_stalled = memory_per_connection(&ballast, "VmRSS").saturating_sub(begin) / stalled;
    println!(
        "{stalled} stalled connections: {each_stalled} bytes each, {:?}",
        start.elapsed()
    );
    assert!(each <= IDLE, "{each} bytes for an idle connection");
    assert!(
        each_stalled <= STALLED,
        "{each_stalled} bytes for a stalled one"
    );
    // All connections still work.
    for mut stream in resting.iter().chain(&stalled_clients).step_by(997) {
        let end = if stalled_clients
            .iter()
            .any(|stalled_clients| std::ptr::eq(stalled_clients, stream))
        {
            "\r\n"
        } else {
            ""
        };
        let request = match end {
            "" => GET.to_owned(),
            end => format!("{end}Host: test\r\n\r\n"),
        };
        stream.write_all(request.as_bytes()).expect("sent");
        let mut response = [0; 12];
        stream.read_exact(&mut response).expect("a response");
        assert_eq!(&response, b"HTTP/1.1 200");
    }
}
