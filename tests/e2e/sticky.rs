//! A cookie keeps a client with its host, as long as that host exists. A client cannot forge such a cookie.

use std::fs;
use std::net::SocketAddr;

use crate::support::{Backend, Ballast, Client, Reply, Response, SOON, Setup, wait_until};

/// Three hosts in turns, and a pool with a cookie.
struct Scene {
    backends: [Backend; 3],
    setup: Setup,
}

impl Scene {
    fn new(sticky: &str) -> Self {
        let backends = ["a", "b", "c"].map(Backend::start_new);
        let setup = Setup::of(&backends.each_ref()).pool(&format!("sticky: {sticky}"));
        Scene { backends, setup }
    }

    fn backend_named(&self, name: &str) -> &Backend {
        let mut backends = self.backends.iter();
        backends
            .find(|backend| backend.name() == name)
            .expect("the name of a backend")
    }
}

/// Sends a request on a new connection, with `cookie` if there is one.
fn ask(address: SocketAddr, cookie: Option<&str>) -> Response {
    let cookie = cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
    Client::connect(address).get_with("/", &cookie)
}

/// The cookie in a response, as `NAME=TOKEN`.
fn cookie(response: &Response) -> Option<&str> {
    let set = response.head.get("set-cookie")?;
    set.split(';').next()
}

/// Sends the first request of a new client. Returns the host that the client reached, and its cookie.
#[track_caller]
fn new_client(address: SocketAddr) -> (String, String) {
    let response = ask(address, None);
    let cookie = cookie(&response).expect("a new client gets a cookie");
    (response.backend().to_owned(), cookie.to_owned())
}

/// Sends five requests with this cookie. Each must reach `host`, and no response may set a new cookie.
#[track_caller]
fn assert_kept(address: SocketAddr, host: &str, cookie: &str) {
    for _ in 0..5 {
        let response = ask(address, Some(cookie));
        assert_eq!((response.status, response.backend()), (200, host));
        assert_eq!(response.head.get("set-cookie"), None);
    }
}

#[test]
fn a_client_stays_with_its_host() {
    let scene = Scene::new("{ cookie: stay }");
    let ballast = scene.setup.start();
    let clients = [(); 6].map(|()| new_client(ballast.address()));
    for host in ["a", "b", "c"] {
        let here = clients.iter().filter(|(name, _)| name == host);
        assert_eq!(here.count(), 2, "new clients are balanced");
    }
    for (host, cookie) in &clients {
        assert_kept(ballast.address(), host, cookie);
        // The cookie also works among other cookies, in any `Cookie` field, and in quotes.
        let among = format!("first=1; {cookie}; last=2");
        assert_kept(ballast.address(), host, &among);
        let two = format!("first=1\r\nCookie: {cookie}");
        assert_kept(ballast.address(), host, &two);
        let quoted = cookie.replacen('=', "=\"", 1) + "\"";
        assert_kept(ballast.address(), host, &quoted);
        let post = format!(
            "POST / HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\nContent-Length: 4\r\n\r\nbody"
        );
        let response = Client::connect(ballast.address()).request(post);
        assert_eq!(response.expect("a complete response").backend(), host);
    }
}

#[test]
fn the_cookie_has_its_attributes_and_cookies_of_the_host_pass() {
    let scene = Scene::new("{ cookie: stay, ttl: 90s }");
    let ballast = scene.setup.top("trusted_proxies: [127.0.0.1]");
    let ballast = ballast.start();
    for backend in &scene.backends {
        backend.set(Reply::ok().field("Set-Cookie", "own=1; Path=/own"));
    }
    let response = ask(ballast.address(), None);
    let set = response.head.all("set-cookie");
    let [own, ours] = set.as_slice() else {
        panic!("{set:?}");
    };
    assert_eq!(*own, "own=1; Path=/own");
    let (pair, attributes) = ours.split_once("; ").expect("attributes");
    assert_eq!(attributes, "Path=/; Max-Age=90; HttpOnly; SameSite=Lax");
    let token = pair.strip_prefix("stay=").expect("the name");
    assert!(
        token.len() > 40
            && token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    );
    // The cookie is `Secure` if a trusted proxy states that its client came over TLS.
    let mut client = Client::connect(ballast.address());
    for proto in ["https", "https, http", "https\r\nX-Forwarded-Proto: http"] {
        let response = client.get_with("/", &format!("X-Forwarded-Proto: {proto}\r\n"));
        let set = response.head.all("set-cookie");
        assert!(
            set[1].ends_with("; HttpOnly; Secure; SameSite=Lax"),
            "{proto}: {set:?}"
        );
    }
    // If the client has the cookie, the response has only the host's own cookie.
    let response = ask(ballast.address(), Some(pair));
    assert_eq!(response.head.all("set-cookie"), ["own=1; Path=/own"]);
}

#[test]
fn generated_responses_set_no_cookie() {
    let scene = Scene::new("{ cookie: stay }");
    let ballast = scene.setup.start();
    scene.backends.iter().for_each(Backend::stop);
    let response = ask(ballast.address(), None);
    assert_eq!(response.status, 502);
    assert_eq!(cookie(&response), None);
}

#[test]
fn forged_tokens_are_ignored() {
    let scene = Scene::new("{ cookie: stay }");
    let ballast = scene.setup.start();
    // Another process with the same pool but another key.
    let other = scene.setup.start();
    let (_, foreign) = new_client(other.address());
    let (host, good) = new_client(ballast.address());
    let token = good.strip_prefix("stay=").expect("the name");
    let flipped = |position: usize| {
        let mut bytes = token.as_bytes().to_vec();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        format!("stay={}", String::from_utf8_lossy(&bytes))
    };
    let address = scene.backend_named(&host).address();
    let forged = [
        "stay=".to_owned(),
        format!("stay={address}"),
        format!("stay={}", &token[..token.len() - 1]),
        format!("stay={token}A"),
        format!("stay={}", token.to_lowercase()),
        format!("stay={}", "A".repeat(token.len())),
        format!("stay={}", "A".repeat(5_000)),
        format!("Stay={token}"),
        flipped(0),
        flipped(8),
        flipped(15),
        flipped(30),
        flipped(token.len() - 1),
        foreign,
    ];
    for forged in &forged {
        let hosts = [(); 3].map(|()| {
            let response = ask(ballast.address(), Some(forged));
            assert_eq!(response.status, 200, "{forged}");
            assert!(
                cookie(&response).is_some_and(|new| new != forged),
                "{forged}"
            );
            response.backend().to_owned()
        });
        // The hosts take turns, as without a cookie.
        assert!(hosts.iter().any(|other| *other != hosts[0]), "{forged}");
    }
    assert_kept(ballast.address(), &host, &good);
}

#[test]
fn a_token_is_renewed_by_use_and_expires_without_it() {
    let scene = Scene::new("{ cookie: stay, ttl: 2s }");
    let ballast = scene.setup.start();
    let (host, first) = new_client(ballast.address());
    let mut latest = first.clone();
    wait_until(SOON, "a newer cookie for the same host", || {
        let response = ask(ballast.address(), Some(&latest));
        assert_eq!(response.backend(), host);
        cookie(&response).is_some_and(|new| {
            latest = new.to_owned();
            latest != first
        })
    });
    wait_until(SOON, "the first cookie has expired", || {
        ask(ballast.address(), Some(&first)).backend() != host
    });
}

#[test]
fn an_unreachable_host_is_replaced_within_the_request() {
    let scene = Scene::new("{ cookie: stay }");
    let ballast = scene.setup.start();
    let (host, first) = new_client(ballast.address());
    scene.backend_named(&host).stop();
    let response = ask(ballast.address(), Some(&first));
    assert_eq!(response.status, 200);
    let next = response.backend().to_owned();
    assert_ne!(next, host);
    let second = cookie(&response).expect("a new cookie").to_owned();
    assert_kept(ballast.address(), &next, &second);
    // The old host is back, but the client stays with its new host.
    scene.backend_named(&host).start();
    assert_kept(ballast.address(), &next, &second);
}

#[test]
fn a_host_that_sends_a_failure_status_is_replaced() {
    let scene = Scene::new("{ cookie: stay }");
    let ballast = scene.setup.start();
    let (host, first) = new_client(ballast.address());
    scene.backend_named(&host).set(Reply::status(503));
    let response = ask(ballast.address(), Some(&first));
    assert_eq!(response.status, 200);
    assert_ne!(response.backend(), host);
    assert!(cookie(&response).is_some());
}

#[test]
fn an_ejected_host_is_replaced() {
    let scene = Scene::new("{ cookie: stay }");
    let ballast = scene.setup.start();
    let (host, cookie) = new_client(ballast.address());
    scene.backend_named(&host).set(Reply::status(500));
    let post = || {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\nContent-Length: 0\r\n\r\n"
        );
        let response = Client::connect(ballast.address()).request(request);
        response.expect("a complete response")
    };
    for _ in 0..5 {
        let response = post();
        assert_eq!((response.status, response.backend()), (500, &*host));
    }
    wait_until(SOON, "the client gets another host", || {
        post().status == 200
    });
}

#[test]
fn an_unhealthy_host_is_replaced() {
    let scene = Scene::new("{ cookie: stay }");
    let check = "{ type: http, path: /healthz, interval: 1s, timeout: 1s, fall: 1 }";
    let ballast = scene.setup.clone().health(check).start();
    let (host, first) = new_client(ballast.address());
    scene.backend_named(&host).set_health(Reply::status(500));
    wait_until(SOON, "the client gets another host", || {
        let response = ask(ballast.address(), Some(&first));
        assert_eq!(response.status, 200);
        let moved = response.backend() != host;
        assert_eq!(moved, cookie(&response).is_some());
        moved
    });
}

#[test]
fn a_full_host_is_replaced() {
    let scene = Scene::new("{ cookie: stay }");
    let ballast = scene.setup.clone().pool("limits: { max_in_flight: 1 }");
    let ballast = ballast.start();
    let (host, first) = new_client(ballast.address());
    let backend = scene.backend_named(&host);
    backend.set(Reply::Hang);
    // The first request may still be counted when its client already has the response. In this case the next request
    // goes to another host.
    let total = || scene.backends.iter().map(Backend::requests).sum::<u64>();
    let before = backend.requests();
    let mut busy = Vec::new();
    while backend.requests() == before {
        let arrived = total();
        let mut client = Client::connect(ballast.address());
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: test\r\nCookie: {first}\r\n\r\n"
            ))
            .expect("sent");
        wait_until(SOON, "the request arrives", || total() > arrived);
        busy.push(client);
    }
    let response = ask(ballast.address(), Some(&first));
    assert_eq!(response.status, 200);
    assert_ne!(response.backend(), host);
    assert!(cookie(&response).is_some());
}

/// Replaces a piece of the configuration file and reloads it in place.
#[track_caller]
fn edit(ballast: &Ballast, old: &str, new: &str) {
    let text = fs::read_to_string(ballast.file()).expect("the file exists");
    let edited = text.replace(old, new);
    assert_ne!(text, edited);
    let outcome = ballast.reload_by_sighup(&edited);
    assert!(!outcome.contains("not reloaded"), "{outcome}");
}

#[test]
fn a_draining_host_is_replaced() {
    let scene = Scene::new("{ cookie: stay }");
    let ballast = scene.setup.start();
    let (host, first) = new_client(ballast.address());
    let address = scene.backend_named(&host).address();
    edit(
        &ballast,
        &format!("\"{address}\""),
        &format!("{{ address: \"{address}\", weight: 0 }}"),
    );
    let response = ask(ballast.address(), Some(&first));
    assert_eq!(response.status, 200);
    let next = response.backend().to_owned();
    assert_ne!(next, host);
    let second = cookie(&response).expect("a new cookie").to_owned();
    assert_kept(ballast.address(), &next, &second);
}

#[test]
fn a_reload_keeps_clients_and_removed_hosts_lose_them() {
    let scene = Scene::new("{ cookie: stay }");
    let ballast = scene.setup.start();
    let (host, first) = new_client(ballast.address());
    // This change makes the process build a new pool.
    edit(&ballast, "algorithm: round_robin", "algorithm: random");
    assert_kept(ballast.address(), &host, &first);
    edit(&ballast, "cookie: stay", "cookie: stay, ttl: 5m");
    assert_kept(ballast.address(), &host, &first);
    let address = scene.backend_named(&host).address();
    let text = fs::read_to_string(ballast.file()).expect("the file exists");
    let hosted = format!("\"{address}\"");
    let without_host = if text.contains(&format!("{hosted}, ")) {
        format!("{hosted}, ")
    } else {
        format!(", {hosted}")
    };
    edit(&ballast, &without_host, "");
    let response = ask(ballast.address(), Some(&first));
    assert_ne!(response.backend(), host);
    assert!(cookie(&response).is_some());
}

#[test]
fn instances_with_the_same_secret_share_their_clients() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let secret = folder.path().join("sticky.key");
    fs::write(&secret, "a secret of more than sixteen bytes\n").expect("the folder can be written");
    let scene = Scene::new(&format!(
        "{{ cookie: stay, secret_file: {} }}",
        secret.display()
    ));
    let instances = [(); 2].map(|()| scene.setup.start());
    let (host, cookie) = new_client(instances[0].address());
    assert_kept(instances[1].address(), &host, &cookie);
    // A new secret makes the old cookies invalid.
    fs::write(&secret, "another secret of sixteen bytes or more").expect("the file can be written");
    edit(&instances[0], "algorithm: round_robin", "algorithm: random");
    let renewed = ask(instances[0].address(), Some(&cookie));
    assert!(super::sticky::cookie(&renewed).is_some());
}
