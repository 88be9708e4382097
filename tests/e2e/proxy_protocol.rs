//! Clients whose address a proxy in front states by the PROXY protocol.

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    Authority, Backend, Ballast, Client, LISTEN, SOON, Setup, file, free, peer, wait_until,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 1.
fn line(client: &str) -> Vec<u8> {
    let family = if client.contains(':') { 6 } else { 4 };
    format!("PROXY TCP{family} {client} {client} 4711 80\r\n").into_bytes()
}

/// A header of version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("the length fits");
    [SIGNATURE, &[command, family], &length.to_be_bytes(), rest].concat()
}

/// A header of version 2 for an IPv4 client, with the bytes `more` after the addresses.
fn binary_of(client: [u8; 4], more: &[u8]) -> Vec<u8> {
    let rest = [&client[..], &[127, 0, 0, 1, 0x12, 0x34, 0, 80], more].concat();
    binary(0x21, 0x11, &rest)
}

/// A process that trusts proxies at 127.0.0.0 to 127.0.0.3.
fn start_with_trusted_proxies(backend: &Backend, more: &str, tls: &str) -> Ballast {
    Setup::of(&[backend])
        .top("timeouts: { client_head: 2s }")
        .top(&format!(
            "listeners: [{{ address: \"{LISTEN}\", {tls} {more} \
             proxy_protocol: {{ trusted: [127.0.0.0/30] }} }}]"
        ))
        .start()
}

fn connect_with(header: &[u8], ballast: &Ballast) -> Client {
    let mut client = Client::connect(ballast.address());
    client.send(header).expect("sent");
    client
}

#[test]
fn the_announced_client_is_the_client_of_the_request() {
    let backend = Backend::start_new("a");
    let ballast = start_with_trusted_proxies(&backend, "", "");
    let tlv = [0x04, 0, 200].into_iter().chain([0; 200]);
    for (header, expected) in [
        (line("192.0.2.7"), "192.0.2.7"),
        (line("2001:db8::7"), "2001:db8::7"),
        (line("::ffff:192.0.2.7"), "192.0.2.7"),
        (binary_of([192, 0, 2, 8], b""), "192.0.2.8"),
        (binary_of([192, 0, 2, 8], &Vec::from_iter(tlv)), "192.0.2.8"),
        // These headers state no client, so the address is the proxy's own.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN some more words\r\n".to_vec(), "127.0.0.1"),
        (binary(0x20, 0, b""), "127.0.0.1"),
        (binary(0x20, 0x11, &[192; 12]), "127.0.0.1"),
    ] {
        let shown = header.escape_ascii();
        let mut client = connect_with(&header, &ballast);
        for _ in 0..2 {
            assert_eq!(client.get("/").status, 200, "{shown}");
            let last = backend.last();
            assert_eq!(last.head.all("x-forwarded-for"), [expected], "{shown}");
        }
        // The header may come together with the request, or byte by byte.
        let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
        let all = [&header[..], request].concat();
        let mut client = connect_with(&all, &ballast);
        assert_eq!(
            client
                .read_response(false)
                .expect("a complete response")
                .status,
            200
        );
        let mut client = Client::connect(ballast.address());
        for byte in &all {
            client.send([*byte]).expect("sent");
        }
        assert_eq!(
            client
                .read_response(false)
                .expect("a complete response")
                .status,
            200
        );
        let last = backend.last();
        assert_eq!(last.head.all("x-forwarded-for"), [expected], "{shown}");
    }
}

#[test]
fn client_rules_apply_to_the_announced_client() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .algorithm("ip_hash")
        .top("limits: { max_connections_per_client: 1, rate: { requests: 1, burst: 2 } }")
        .top(&format!(
            "listeners: [{{ address: \"{LISTEN}\", deny: [192.0.2.66], \
             proxy_protocol: {{ trusted: [127.0.0.1] }} }}]"
        ))
        .start();
    let mut denied = connect_with(&line("192.0.2.66"), &ballast);
    assert!(denied.is_closed_within(SOON));
    let mut first = connect_with(&line("192.0.2.1"), &ballast);
    assert_eq!([(); 3].map(|()| first.get("/").status), [200, 200, 429]);
    let mut second = connect_with(&line("192.0.2.1"), &ballast);
    assert!(second.is_closed_within(SOON), "one connection each");
    let mut other = connect_with(&line("192.0.2.2"), &ballast);
    assert_eq!(other.get("/").status, 200);
}

#[test]
fn connections_without_a_valid_header_from_a_trusted_proxy_are_closed() {
    let backend = Backend::start_new("a");
    let ballast = start_with_trusted_proxies(&backend, "", "");
    let untrusted: IpAddr = "127.0.0.9".parse().expect("an address");
    let mut client = Client::from_ip(untrusted, ballast.address()).expect("connected");
    let _ = client.send(line("192.0.2.7"));
    assert!(client.is_closed_within(SOON));
    ballast.wait_for_log(&["WARN", "127.0.0.9", "is not a trusted proxy"]);
    let start = Instant::now();
    for bad in [
        b"GET / HTTP/1.1\r\nHost: test\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 192.0.2.7 4711\r\n".to_vec(),
        b"PROXY TCP4 ::1 ::1 4711 80\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 192.0.2.7 65536 80\r\n".to_vec(),
        b"PROXYxTCP4 192.0.2.7 192.0.2.7 4711 80\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'a'; 200][..]].concat(),
        binary(0x31, 0x11, &[192; 12]),
        binary(0x21, 0x11, &[192; 8]),
        binary(0x21, 0x12, &[192; 12]),
        binary(0x21, 0x11, &[0; 5_000]),
    ] {
        let mut client = connect_with(&bad, &ballast);
        assert!(client.is_closed_within(SOON), "{}", bad.escape_ascii());
    }
    // The log does not have one line for each bad header.
    let lines = ballast.log_with(&["WARN", "PROXY header"]).len() as u64;
    let most = start.elapsed().as_secs() + 2;
    assert!(lines <= most, "{lines} lines in {:?}", start.elapsed());
    // An incomplete header has the same deadline as a head.
    for part in [&b""[..], b"PROXY TCP4 192.0.2.7 19", SIGNATURE] {
        let start = Instant::now();
        let mut client = connect_with(part, &ballast);
        assert!(client.is_closed_within(SOON));
        assert!(start.elapsed() >= Duration::from_millis(1_900));
    }
    assert_eq!(backend.requests(), 0);
    wait_until(SOON, "the log says what is missing", || {
        !ballast.log_with(&["WARN", "PROXY header"]).is_empty()
    });
}

#[test]
fn the_header_precedes_tls() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("edge");
    let (certificate, key) = authority.issue(&["edge.test"]).write(folder.path(), "edge");
    let backend = Backend::start_new("a");
    let tls = format!(
        "tls: {{ certificates: [{{ certificate: \"{}\", key: \"{}\" }}] }},",
        certificate.display(),
        key.display()
    );
    let ballast = start_with_trusted_proxies(&backend, "", &tls);
    for header in [line("192.0.2.7"), binary_of([192, 0, 2, 7], b"")] {
        let config = authority.client();
        let client = Client::tls_after(&header, ballast.address(), "edge.test", config);
        assert_eq!(client.expect("connected").get("/").status, 200);
        let last = backend.last();
        assert_eq!(last.head.all("x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(last.head.get("x-forwarded-proto"), Some("https"));
    }
}

#[test]
fn a_reload_enables_and_disables_it_for_new_connections() {
    let backend = Backend::start_new("a");
    let setup = |more: &str| {
        let listeners = format!("listeners: [{{ address: \"{LISTEN}\"{more} }}]");
        Setup::of(&[&backend]).top(&listeners)
    };
    let ballast = setup("").start();
    let mut plain = Client::connect(ballast.address());
    assert_eq!(plain.get("/").status, 200);
    let announced = ", proxy_protocol: { trusted: [127.0.0.1] }";
    let outcome = ballast.reload_by_sighup(&setup(announced).yaml());
    assert!(outcome.contains("proxy_protocol changed"), "{outcome}");
    assert_eq!(plain.get("/").status, 200, "the connection stays open");
    assert_eq!(
        connect_with(&line("192.0.2.7"), &ballast).get("/").status,
        200
    );
    ballast.reload_by_sighup(&setup("").yaml());
    assert_eq!(Client::connect(ballast.address()).get("/").status, 200);
}

/// A child process that is killed at the end of the test.
struct Haproxy(Child);

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_sends_its_clients_in_both_versions() {
    let Some(program) = peer("haproxy") else {
        return;
    };
    let backend = Backend::start_new("a");
    let ballast = start_with_trusted_proxies(&backend, "", "");
    for version in ["send-proxy check", "send-proxy-v2 check"] {
        let front: SocketAddr = free();
        let config = format!(
            "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 3s\n  timeout client 10s\n  \
             timeout server 10s\nlisten web\n  bind {front}\n  server a {} {version}\n",
            ballast.address()
        );
        let config = file(ballast.folder(), "haproxy.cfg", &config);
        let mut command = Command::new(&program);
        command.arg("-db").arg("-f").arg(config);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let _running = Haproxy(child.expect("an installed program can be started"));
        let source = "127.0.0.77".parse().expect("an address");
        wait_until(SOON, "haproxy passes requests on", || {
            let client = Client::from_ip(source, front);
            let request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
            let response = client.and_then(|mut client| client.request(request));
            response.is_ok_and(|response| response.status == 200)
        });
        let last = backend.last();
        assert_eq!(
            last.head.all("x-forwarded-for"),
            ["127.0.0.77"],
            "{version}"
        );
    }
}
