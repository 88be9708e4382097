//! Hosts that learn of the client by a PROXY header at the beginning of each connection.

pub(crate) mod host;
mod peers;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use h2::server::Builder;
use http::HeaderMap;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig};

use self::host::ProxiedHost;
use crate::support::http2::{Http2, Secure, request};
use crate::support::http2_backend::{Http2Backend, Stream};
use crate::support::{
    Authority, Ballast, Client, DeadHost, Identity, LISTEN, SOON, Setup, wait_for, wait_until,
};

const VERSIONS: [&str; 2] = ["v1", "v2"];

/// A pool of these hosts.
fn pool(hosts: &[&ProxiedHost], version: &str) -> Setup {
    let setup = Setup::of(&[]).pool(&format!("proxy_protocol: {version}"));
    hosts
        .iter()
        .fold(setup, |setup, host| setup.host(host.address()))
}

fn client_from(last: u8, ballast: &Ballast) -> Client {
    let source = [127, 0, 0, last].into();
    Client::from_ip(source, ballast.address()).expect("connected")
}

/// What a header says about the client.
fn told(version: &str, client: &Client, ballast: &Ballast) -> String {
    let (source, destination) = (client.local_address(), ballast.address());
    format!("{version} {source} {destination}")
}

#[test]
fn each_connection_to_a_host_begins_with_the_client_of_its_requests() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("hosts");
    let ca = authority.write(folder.path(), "ca.pem");
    let tls = format!("tls: {{ server_name: host.test, ca: {} }}", ca.display());
    let mut used = Vec::new();
    for version in VERSIONS {
        let secure = ProxiedHost::tls(authority.issue(&["host.test"]).server());
        for (host, tls) in [(ProxiedHost::http1(), ""), (secure, &*tls)] {
            let ballast = pool(&[&host], version).pool(tls).start();
            for number in 1..=2 {
                let mut client = client_from(70 + number, &ballast);
                let expected = format!("{number} {}", told(version, &client, &ballast));
                // A client's requests share their connection.
                assert_eq!(client.get("/").text(), expected);
                assert_eq!(client.post("/", &[b'x'; 100_000]).text(), expected);
                assert_eq!(client.get("/").text(), expected);
            }
            used.push((host, ballast));
        }
    }
    wait_until(SOON, "connections end with their clients", || {
        used.iter().all(|(host, _)| host.open() == 0)
    });
}

#[test]
fn clients_share_no_connection_to_a_host() {
    let hosts = [ProxiedHost::http1(), ProxiedHost::http1()];
    let ballast = pool(&[&hosts[0], &hosts[1]], "v2").start();
    let mut clients = [71, 72, 73].map(|last| client_from(last, &ballast));
    for round in 0..8 {
        // The hosts take turns, so the order of the clients changes.
        for index in 0..3 {
            let client = &mut clients[(index + round) % 3];
            let expected = told("v2", client, &ballast);
            let response = client.get("/").text();
            assert_eq!(response.split_once(' '), Some((&response[..1], &*expected)));
        }
    }
    // Each host has one connection for each client.
    for host in &hosts {
        assert_eq!(host.headers().len(), 3, "{:?}", host.headers());
    }
}

#[test]
fn a_client_with_more_hosts_than_kept_connections_is_served() {
    let hosts = [(); 7].map(|()| ProxiedHost::http1());
    let ballast = pool(&hosts.each_ref(), "v1").start();
    let mut client = client_from(71, &ballast);
    let expected = told("v1", &client, &ballast);
    for _ in 0..21 {
        assert!(client.get("/").text().ends_with(&expected));
    }
}

#[test]
fn another_attempt_brings_the_client_to_the_next_host() {
    let (silent, dead) = (ProxiedHost::silent(), DeadHost::new());
    let host = ProxiedHost::http1();
    let setup = pool(&[&silent], "v2").host(dead.address());
    let ballast = setup.host(host.address()).pool("ejection: none").start();
    let mut client = client_from(71, &ballast);
    let expected = told("v2", &client, &ballast);
    for _ in 0..6 {
        assert!(client.get("/").text().ends_with(&expected));
    }
    let headers = silent.headers();
    assert!(!headers.is_empty());
    assert!(headers.iter().all(|header| *header == expected));
    // A kept connection that the host has closed meanwhile is replaced.
    for _ in 0..3 {
        host.close_connections();
        assert!(client.get("/").text().ends_with(&expected));
    }
}

#[test]
fn a_tunnel_begins_with_the_client() {
    for version in VERSIONS {
        let host = ProxiedHost::http1();
        let ballast = pool(&[&host], version).start();
        let mut client = client_from(71, &ballast);
        let fields = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        assert_eq!(client.get_with("/", fields).status, 101);
        client.send("ping").expect("sent");
        assert_eq!(client.wire().read_some(4).expect("an echo"), b"ping");
        assert_eq!(host.headers(), [told(version, &client, &ballast)]);
    }
}

#[test]
fn health_checks_belong_to_no_client() {
    for version in VERSIONS {
        for check in ["tcp", "http, path: /healthz"] {
            let host = ProxiedHost::http1();
            let timing = "interval: 50ms, timeout: 50ms, fall: 1000, initial: up";
            let check = format!("{{ type: {check}, {timing} }}");
            let ballast = pool(&[&host], version).health(&check).start();
            let mut client = client_from(71, &ballast);
            let expected = told(version, &client, &ballast);
            assert!(client.get("/").text().ends_with(&expected), "{check}");
            let checks = || {
                let headers = host.headers().into_iter();
                headers.filter(|header| *header != expected)
            };
            wait_until(SOON, "more checks", || checks().count() > 2);
            let unknown = format!("{version} no client");
            assert!(checks().all(|header| header == unknown), "{check}");
        }
    }
}

#[test]
fn what_is_asked_for_a_client_names_it_too() {
    let [web, copies, service] = [(); 3].map(|()| ProxiedHost::http1());
    let pool = |name: &str, host: &ProxiedHost, version: &str| {
        let address = host.address();
        format!(
            "  {name}: {{ hosts: [\"{address}\"], proxy_protocol: {version}, health_check: none }}\n"
        )
    };
    let pools = [
        pool("web", &web, "v1"),
        pool("copies", &copies, "v2"),
        pool("service", &service, "v1"),
    ];
    let ballast = Ballast::start(&format!(
        "listeners: [\"{LISTEN}\"]\n\
         routes: [{{ pool: web, mirror: {{ pool: copies }}, auth: {{ pool: service, path: /verify }} }}]\n\
         pools:\n{}",
        pools.concat()
    ));
    let clients = [71, 72].map(|last| client_from(last, &ballast));
    let mut all = Vec::new();
    for mut client in clients {
        for _ in 0..2 {
            assert_eq!(client.get("/").status, 200);
            all.push(told("", &client, &ballast));
        }
    }
    let headers = |host: &ProxiedHost, version: &str| {
        let headers = host.headers().into_iter();
        let told = headers.map(|header| header.trim_start_matches(version).to_owned());
        Vec::from_iter(told)
    };
    wait_until(SOON, "copies of all requests", || {
        copies.headers().len() == 4
    });
    let mut copied = headers(&copies, "v2");
    copied.sort();
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(copied, sorted);
    // Each of these has a connection of its own.
    assert_eq!(headers(&service, "v1"), all);
    assert_eq!(headers(&web, "v1"), [&*all[0], &*all[2]]);
}

#[test]
fn the_client_is_the_one_that_a_load_balancer_in_front_names() {
    let host = ProxiedHost::http1();
    let ballast = pool(&[&host], "v2")
        .top("trusted_proxies: [127.0.0.0/8]")
        .top(&format!(
            "listeners: [{{ address: \"{LISTEN}\", proxy_protocol: {{ trusted: [127.0.0.0/8] }} }}]"
        ))
        .start();
    let local = |client: &Client| told("v2", client, &ballast);
    for (header, expected) in [
        (
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
            "v2 192.0.2.7:4711 198.51.100.1:443",
        ),
        (
            "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n",
            "v2 [2001:db8::7]:4711 [2001:db8::1]:443",
        ),
        ("PROXY UNKNOWN\r\n", ""),
    ] {
        let mut client = client_from(71, &ballast);
        client.send(header).expect("sent");
        let expected = match expected {
            "" => local(&client),
            expected => expected.to_owned(),
        };
        // This belongs to a request, the header to the connection.
        let response = client.get_with("/", "X-Forwarded-For: 203.0.113.9\r\n");
        assert!(response.text().ends_with(&expected), "{expected}");
    }
}

#[test]
fn a_reload_does_not_leave_connections_of_the_other_kind() {
    let host = ProxiedHost::http1();
    let setup = |version: &str| pool(&[&host], version);
    let ballast = setup("none").start();
    let mut client = client_from(71, &ballast);
    assert_eq!(client.get("/").text(), "1 none");
    assert_eq!(client.get("/").text(), "1 none");
    for (number, version) in [(2, "v1"), (3, "v2")] {
        let outcome = ballast.reload_by_sighup(&setup(version).yaml());
        assert!(outcome.contains("proxy_protocol"), "{outcome}");
        let expected = format!("{number} {}", told(version, &client, &ballast));
        assert_eq!(client.get("/").text(), expected);
        assert_eq!(client.get("/").text(), expected);
    }
    ballast.reload_by_sighup(&setup("none").yaml());
    assert!(client.get("/").text().ends_with(" none"));
}

/// A TLS listener for the name `test` that knows the certificates of `clients`.
fn secure_listener(folder: &Path, servers: &Authority, clients: &Authority) -> String {
    servers.issue(&["test"]).write(folder, "test");
    clients.write(folder, "clients.pem");
    let folder = folder.display();
    format!(
        "listeners: [{{ address: \"{LISTEN}\", tls: {{ \
         certificates: {{ certificate: {folder}/test.crt, key: {folder}/test.key }}, \
         client_certificates: {{ ca: {folder}/clients.pem, mode: optional }} }} }}]"
    )
}

fn offering(config: &Arc<ClientConfig>, protocol: &str) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

#[test]
fn version_2_describes_the_tls_of_the_client() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let [servers, clients] = ["servers", "clients"].map(Authority::new);
    let [host, old] = [ProxiedHost::http1(), ProxiedHost::http1()];
    let listener = secure_listener(folder.path(), &servers, &clients);
    let ballast = pool(&[&host], "v2").top(&listener).start();
    let identity = clients.issue_named("Zoë");
    for (identity, shown) in [(None, ""), (Some(&identity), " cn=Zoë")] {
        for (version, words) in [(&TLS12, "TLSv1.2 ECDHE-ECDSA-"), (&TLS13, "TLSv1.3 TLS_")] {
            let config = servers.client_with(identity, &[version]);
            let http1 = offering(&config, "http/1.1");
            let mut client = Client::tls(ballast.address(), "test", http1).expect("connected");
            let expected = told("v2", &client, &ballast);
            let text = client.get("/").text();
            let begin = format!("{expected} alpn=http/1.1 authority=test {words}");
            assert!(text.contains(&begin), "{text} {begin}");
            assert!(text.ends_with(shown), "{text}");
            assert_eq!(text.contains("cn="), identity.is_some());
            // Without ALPN there is nothing to tell of it.
            let mut client =
                Client::tls(ballast.address(), "test", config.clone()).expect("connected");
            let begin = format!("{} authority=test {words}", told("v2", &client, &ballast));
            assert!(client.get("/").text().contains(&begin));
            let mut client = Http2::connect(ballast.address(), offering(&config, "h2"));
            let text = String::from_utf8(client.get("/").body).expect("text");
            let middle = format!("{} alpn=h2 authority=test {words}", ballast.address());
            assert!(text.contains(&middle) && text.ends_with(shown), "{text}");
        }
    }
    // Version 1 has room for addresses alone.
    let ballast = pool(&[&old], "v1").top(&listener).start();
    let config = servers.client_with(Some(&identity), &[&TLS13]);
    let mut client = Client::tls(ballast.address(), "test", config).expect("connected");
    let expected = told("v1", &client, &ballast);
    assert_eq!(client.get("/").text(), format!("1 {expected}"));
}

/// A server of HTTP/2 that answers with the number of the connection.
fn http2_backend() -> Http2Backend {
    Http2Backend::start(|mut stream: Stream| async move {
        stream.read().await;
        let body = stream.connection.to_string().into_bytes();
        stream.answer(200, body, HeaderMap::new());
    })
}

#[test]
fn streams_of_one_client_share_a_connection_of_http_2() {
    let backend = http2_backend();
    let host = ProxiedHost::before(backend.address());
    let secure = Secure::new();
    let ballast = pool(&[&host], "v2")
        .pool("protocol: h2c")
        .top(&secure.listeners())
        .start();
    for number in 1..=2_usize {
        let mut client = secure.connect(ballast.address());
        // The first one opens the connection to the host.
        assert_eq!(client.get("/").body, number.to_string().as_bytes());
        let opened = Vec::from_iter((0..20).map(|_| {
            let (response, _) = client.open(request("GET", "/"), true).expect("opened");
            response
        }));
        for response in client.all(opened) {
            assert_eq!(
                response.expect("a response").body,
                number.to_string().as_bytes()
            );
        }
        let headers = host.headers();
        assert_eq!(headers.len(), number);
        assert!(headers[number - 1].contains(&format!("{} alpn=h2", ballast.address())));
    }
    assert_ne!(host.headers()[0], host.headers()[1], "another port");
    wait_until(SOON, "connections end after their clients", || {
        host.open() == 0
    });
}

#[test]
fn clients_of_http_1_share_no_connection_of_http_2() {
    let backend = http2_backend();
    let host = ProxiedHost::before(backend.address());
    let ballast = pool(&[&host], "v1").pool("protocol: h2c").start();
    let mut clients = [71, 72].map(|last| client_from(last, &ballast));
    for _ in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.get("/").text(), (number + 1).to_string());
        }
    }
    let expected = clients
        .each_ref()
        .map(|client| told("v1", client, &ballast));
    assert_eq!(host.headers(), expected);
}

/// The settings of a TLS server that offers one protocol.
fn server(identity: &Identity, protocol: &str) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&identity.server());
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

#[test]
fn hosts_that_choose_their_protocol_learn_of_the_client_before() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("hosts");
    let ca = authority.write(folder.path(), "ca.pem");
    let identity = authority.issue(&["host.test"]);
    let backend = Http2Backend::with(
        Builder::new(),
        Some(server(&identity, "h2")),
        |stream: Stream| async move { stream.answer(200, "h2", HeaderMap::new()) },
    );
    let hosts = [
        ProxiedHost::before(backend.address()),
        ProxiedHost::tls(server(&identity, "http/1.1")),
    ];
    let tls = format!("tls: {{ server_name: host.test, ca: {} }}", ca.display());
    for host in hosts {
        let setup = pool(&[&host], "v2").pool(&tls).pool("protocol: auto");
        let ballast = setup.start();
        let mut client = client_from(71, &ballast);
        for _ in 0..2 {
            assert_eq!(client.get("/").status, 200);
        }
        assert_eq!(host.headers(), [told("v2", &client, &ballast)]);
    }
}

#[test]
fn a_dual_stack_listener_names_clients_of_both_families() {
    let host = ProxiedHost::http1();
    let port = crate::support::free().port();
    let setup = pool(&[&host], "v1").top(&format!("listeners: [\"[::]:{port}\"]"));
    let _ballast = Ballast::spawn(&setup.yaml());
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let address: SocketAddr = address.parse().expect("an address");
        let source = match address.is_ipv4() {
            true => "127.0.0.71".parse(),
            false => "::1".parse(),
        };
        let source = source.expect("an address");
        let mut client = wait_for(SOON, "the listener", || {
            Client::from_ip(source, address).ok()
        });
        let expected = format!("v1 {} {address}", client.local_address());
        assert!(client.get("/").text().ends_with(&expected), "{expected}");
    }
}
