//! Which fields about the client a host receives, and which fields of an untrusted client the proxy drops.

use std::collections::HashSet;

use crate::support::http2::{Secure, request};
use crate::support::{Backend, Client, Head, Reply, Setup, get};

#[test]
fn hosts_receive_forwarding_fields() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let source = "127.0.0.9".parse().expect("an address");
    let mut client = Client::from_ip(source, ballast.address()).expect("connected");
    let request = "GET / HTTP/1.1\r\nHost: shop.example:81\r\n\r\n";
    assert_eq!(
        client.request(request).expect("a complete response").status,
        200
    );
    let head = backend.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.9"]);
    assert_eq!(head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(head.all("x-forwarded-host"), ["shop.example:81"]);
    let port = ballast.address().port().to_string();
    assert_eq!(head.all("x-forwarded-port"), [port]);
    assert_eq!(head.all("x-real-ip"), ["127.0.0.9"]);
}

const CLAIMS: &str = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-For: 203.0.113.9\r\n\
                      X-Forwarded-Proto: https\r\nX-Forwarded-Host: bank.example\r\n";

#[test]
fn forwarding_fields_of_an_untrusted_client_are_replaced() {
    let backend = Backend::start_new("a");
    // The client is not in one of the trusted networks.
    let ballast = Setup::of(&[&backend])
        .top("trusted_proxies: [10.0.0.0/8, \"::1/128\"]")
        .start();
    Client::connect(ballast.address()).get_with("/", CLAIMS);
    let head = backend.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(head.all("x-forwarded-host"), ["test"]);
}

/// Fields by which a client could fake its identity.
const IDENTITY: &[&str] = &[
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-User",
    "X-Forwarded-Client-Cert",
    "X-Forwarded",
    "Forwarded",
    "X-Client-IP",
    "True-Client-IP",
    "X-Cluster-Client-IP",
    "Client-IP",
    "Proxy",
];

#[test]
fn forged_identity_fields_reach_no_host() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let setup = Setup::of(&[&backend]).top("headers: { underscores: pass }");
    let ballast = setup.start();
    let over_tls = setup.clone().top(&secure.listeners()).start();
    let claims = |separator: &str| {
        let names = IDENTITY.iter().chain(&["X-Real-IP", "X-Forwarded-Port"]);
        let names = names.map(|name| name.replace('-', separator));
        String::from_iter(names.map(|name| format!("{name}: 6.6.6.6\r\n")))
    };
    let assert_no_identity_fields = |head: &Head, port: u16| {
        let forged = head
            .fields
            .iter()
            .filter(|(_, value)| value.contains("6.6.6.6"));
        assert_eq!(forged.count(), 0, "{:?}", head.fields);
        assert_eq!(head.all("x-real-ip"), ["127.0.0.1"]);
        assert_eq!(head.all("x-forwarded-port"), [port.to_string()]);
    };
    for separator in ["-", "_"] {
        Client::connect(ballast.address()).get_with("/", &claims(separator));
        assert_no_identity_fields(&backend.last().head, ballast.address().port());
        let mut request_with_claims = request("GET", "/");
        for line in claims(separator).lines() {
            let name = line.split(':').next().expect("a name").to_lowercase();
            let name = http::HeaderName::try_from(name).expect("a name");
            request_with_claims
                .headers_mut()
                .append(name, "6.6.6.6".parse().expect("a value"));
        }
        let response = secure.connect(over_tls.address()).ask(request_with_claims);
        assert_eq!(response.expect("a response").status, 200);
        assert_no_identity_fields(&backend.last().head, over_tls.address().port());
    }
}

#[test]
fn identity_fields_can_be_dropped_or_passed_by_name() {
    let backend = Backend::start_new("a");
    let identity = "headers: { client_identity: { drop: [CF-Connecting-IP, X-Original-URL], \
                    pass: [X-Forwarded-Prefix, Forwarded] } }";
    let setup = Setup::of(&[&backend]).top(identity);
    let fields = "CF-Connecting-IP: 6.6.6.6\r\nx-original-url: /admin\r\nX-Forwarded-Prefix: /a\r\n\
                  Forwarded: for=a\r\nX-Forwarded-Server: b\r\n";
    let forwarded = |setup: &Setup| {
        let ballast = setup.start();
        Client::connect(ballast.address()).get_with("/", fields);
        let head = backend.last().head;
        [
            "cf-connecting-ip",
            "x-original-url",
            "x-forwarded-prefix",
            "forwarded",
            "x-forwarded-server",
        ]
        .map(|name| head.get(name).is_some())
    };
    assert_eq!(forwarded(&setup), [false, false, true, true, false]);
    let trusted = setup.clone().top("trusted_proxies: [127.0.0.1]");
    assert_eq!(forwarded(&trusted), [true; 5]);
}

#[test]
fn a_trusted_proxy_sets_port_and_client() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("trusted_proxies: [127.0.0.1]")
        .start();
    let here = ballast.address().port().to_string();
    for (fields, port, client) in [
        ("", &*here, "127.0.0.1"),
        (
            "X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 6.6.6.6\r\n",
            &*here,
            "1.2.3.4",
        ),
        ("X-Forwarded-Port: 8443\r\n", "8443", "127.0.0.1"),
        ("X-Forwarded-Proto: https, http\r\n", "443", "127.0.0.1"),
        ("X-Forwarded-Proto: http\r\n", "80", "127.0.0.1"),
    ] {
        Client::connect(ballast.address()).get_with("/", fields);
        let head = backend.last().head;
        assert_eq!(head.all("x-forwarded-port"), [port], "{fields}");
        assert_eq!(head.all("x-real-ip"), [client], "{fields}");
    }
}

#[test]
fn forwarding_fields_of_a_trusted_proxy_are_extended() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("trusted_proxies: [127.0.0.0/8]")
        .start();
    Client::connect(ballast.address()).get_with("/", CLAIMS);
    let head = backend.last().head;
    assert_eq!(
        head.all("x-forwarded-for").join(", "),
        "198.51.100.7, 203.0.113.9, 127.0.0.1"
    );
    assert_eq!(head.all("x-forwarded-proto"), ["https"]);
    assert_eq!(head.all("x-forwarded-host"), ["bank.example"]);
    // If a trusted proxy sends no fields, the process adds its own.
    get(ballast.address(), "/");
    let head = backend.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(head.all("x-forwarded-proto"), ["http"]);
}

#[test]
fn connection_options_cannot_remove_forwarding_fields() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    let response = client.request(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: X-Forwarded-For, X-Request-Id\r\n\r\n",
    );
    let answered = response.is_ok_and(|response| response.status == 200);
    if answered {
        let head = backend.last().head;
        assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(head.all("x-request-id").len(), 1);
    } else {
        assert_eq!(backend.requests(), 0);
    }
}

#[test]
fn each_request_gets_a_unique_id_unless_it_has_one() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    let mut seen = HashSet::new();
    for _ in 0..50 {
        client.get("/");
        let head = backend.last().head;
        let ids = head.all("x-request-id");
        assert_eq!(ids.len(), 1);
        assert!(ids[0].len() >= 16, "`{}` may not be unique", ids[0]);
        assert!(seen.insert(ids[0].to_owned()), "`{}` came twice", ids[0]);
    }
    client.get_with("/", "X-Request-Id: mine-1\r\n");
    assert_eq!(backend.last().head.all("x-request-id"), ["mine-1"]);
}

#[test]
fn the_host_field_is_kept_or_replaced_by_the_hosts_own() {
    let (a, b) = (Backend::start_new("a"), Backend::start_new("b"));
    let preserve = Setup::of(&[&a]).pool("host_header: preserve").start();
    let upstream = Setup::of(&[&b]).pool("host_header: upstream").start();
    get(preserve.address(), "/");
    assert_eq!(a.last().head.all("host"), ["test"]);
    get(upstream.address(), "/");
    assert_eq!(b.last().head.all("host"), [b.address().to_string()]);
    // The name that the client asked for is still in `X-Forwarded-Host`.
    assert_eq!(b.last().head.all("x-forwarded-host"), ["test"]);
}

#[test]
fn each_proxy_adds_via_unless_disabled() {
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().field("Via", "1.1 inner"));
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    // A client cannot remove the field of the proxy.
    let response = client.get_with("/", "Via: 1.1 outer\r\n");
    assert_eq!(backend.last().head.all("via"), ["1.1 outer", "1.1 ballast"]);
    assert_eq!(response.head.all("via"), ["1.1 inner", "1.1 ballast"]);
    client.get_with("/", "Connection: Via\r\n");
    assert_eq!(backend.last().head.all("via"), ["1.1 ballast"]);

    let named = Setup::of(&[&backend])
        .top("headers: { via: edge-1 }")
        .start();
    get(named.address(), "/");
    assert_eq!(backend.last().head.all("via"), ["1.1 edge-1"]);

    let silent = Setup::of(&[&backend]).top("headers: { via: none }").start();
    let response = get(silent.address(), "/");
    assert_eq!(backend.last().head.get("via"), None);
    assert_eq!(response.head.all("via"), ["1.1 inner"]);
}

#[test]
fn fields_with_underscores_reach_hosts_only_if_configured() {
    let backend = Backend::start_new("a");
    let drop = Setup::of(&[&backend]).start();
    let pass = Setup::of(&[&backend])
        .top("headers: { underscores: pass }")
        .start();
    let lookalikes = "X_Forwarded_For: 6.6.6.6\r\nx_user: me\r\nX-User: you\r\n_: 1\r\n";
    Client::connect(drop.address()).get_with("/", lookalikes);
    let head = backend.last().head;
    assert!(head.fields.iter().all(|(name, _)| !name.contains('_')));
    assert_eq!(head.all("x-user"), ["you"]);
    Client::connect(pass.address()).get_with("/", lookalikes);
    let head = backend.last().head;
    assert!(head.all("x_forwarded_for").is_empty());
    assert_eq!(head.all("x_user"), ["me"]);
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn hash_keys_ignore_fields_that_hosts_do_not_get() {
    let backends = [0, 1, 2, 3].map(|n| Backend::start_new(&format!("h{n}")));
    let refs: Vec<&Backend> = backends.iter().collect();
    let ballast = Setup::of(&refs)
        .algorithm("{ name: consistent_hash, key: \"header:X_User\", fallback: round_robin }")
        .start();
    let mut client = Client::connect(ballast.address());
    let seen: HashSet<String> = (0..4)
        .map(|_| {
            let response = client.get_with("/", "X_User: same\r\n");
            response.backend().to_owned()
        })
        .collect();
    assert_eq!(seen.len(), 4, "the hosts take turns");
}

#[test]
fn hop_by_hop_fields_are_not_forwarded() {
    let backend = Backend::start_new("a");
    backend.set(
        Reply::ok()
            .field("Connection", "X-Mine, keep-alive")
            .field("X-Mine", "1")
            .field("Keep-Alive", "timeout=5")
            .field("Proxy-Connection", "keep-alive")
            .field("Upgrade", "h2")
            .field("X-Yours", "1"),
    );
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    let response = client.get_with(
        "/",
        "Connection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\n\
         Trailer: x\r\nUpgrade: h2c\r\nX-Yours: 1\r\n",
    );
    let mine = [
        "x-mine",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "te",
        "trailer",
    ];
    for head in [&backend.last().head, &response.head] {
        for name in mine {
            assert_eq!(head.get(name), None, "{name}");
        }
        assert_eq!(head.get("x-yours"), Some("1"));
    }
    assert_eq!(response.head.get("connection"), Some("keep-alive"));
}
