//! The files of conf/examples: each is started with hosts and files of the test, and does what its comment says.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::proxy_protocol_to_hosts::host::ProxiedHost;
use crate::support::http2::{Http2, request};
use crate::support::http2_backend::Http2Backend;
use crate::support::{
    Authority, Backend, Ballast, Client, ConsulInstance, ConsulServer, Etcd, LISTEN, Reply,
    Response, SOON, UnixRelay, file, free, wait_until,
};

/// Names of hosts, in the place of which the tests have one that every machine knows.
const NAMES: [&str; 2] = ["app.internal", "app.shop.svc.cluster.local"];

/// A running example.
struct Example {
    ballast: Ballast,
    /// The listener for TLS, if the example has one.
    tls: SocketAddr,
    authority: Authority,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples")
}

/// Starts an example, with `backends` in the places of 127.0.0.1:8081, 8082 and so on.
fn start(name: &str, backends: &[&Backend]) -> Example {
    let addresses = backends.iter().map(|backend| backend.address());
    start_at(name, &Vec::from_iter(addresses))
}

/// The same with hosts at these addresses.
fn start_at(name: &str, hosts: &[SocketAddr]) -> Example {
    start_with(name, hosts, &[])
}

/// The same with other text, such as the address of a service.
fn start_with(name: &str, hosts: &[SocketAddr], replaced: &[(&str, &str)]) -> Example {
    let authority = Authority::new("authority");
    let tls = free();
    let prepare = |folder: &Path, text: &str| {
        let mut text = text.to_owned();
        for (example, replacement) in replaced {
            text = text.replace(example, replacement);
        }
        text = text
            .replace("0.0.0.0:80", LISTEN)
            .replace("0.0.0.0:443", &tls.to_string())
            .replace("127.0.0.1:9900", &free().to_string())
            .replace("acme-v02.api.letsencrypt.org", "127.0.0.1:9")
            .replace("unix:/run", &format!("unix:{}", folder.display()))
            .replace("127.0.0.1:2379", "127.0.0.1:9")
            .replace("/var/lib/ballast", &folder.display().to_string())
            .replace("/etc/ballast", &folder.display().to_string())
            .replace("/etc/letsencrypt", &folder.display().to_string());
        for (number, host) in hosts.iter().enumerate() {
            let example = format!("127.0.0.1:{}", 8081 + number);
            text = text.replace(&example, &host.to_string());
            for name in NAMES {
                let example = format!("{name}:{}", 8081 + number);
                text = text.replace(&example, &format!("localhost:{}", host.port()));
            }
        }
        text
    };
    // LISTEN is replaced in the text that the process is started with, and the rest is copied beside it.
    let text = fs::read_to_string(directory().join(name)).expect("the example can be read");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let text = prepare(folder.path(), &text);
    copy(&directory(), folder.path(), &|text| {
        prepare(folder.path(), text)
    });
    for site in ["example.com", "example.org"] {
        let (chain, key) = authority.issue(&[site]).write(folder.path(), site);
        fs::rename(chain, folder.path().join(format!("{site}.pem"))).expect("written");
        fs::rename(key, folder.path().join(format!("{site}.key"))).expect("written");
    }
    let live = folder.path().join("live/example.net");
    fs::create_dir_all(&live).expect("it can be made");
    let identity = authority.issue(&["example.net"]);
    file(&live, "fullchain.pem", &identity.pem());
    file(&live, "privkey.pem", &identity.key_pem());
    for secret in ["token", "sticky.secret"] {
        let path = file(folder.path(), secret, "0123456789abcdef0123456789abcdef\n");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("changed");
    }
    let ballast = Ballast::start_in(folder, &text, &["ENVIRONMENT=test"]);
    Example {
        ballast,
        tls,
        authority,
    }
}

/// Copies all files of a directory and of those in it.
fn copy(from: &Path, to: &Path, prepare: &dyn Fn(&str) -> String) {
    for entry in fs::read_dir(from).expect("it can be read") {
        let entry = entry.expect("it can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("it can be made");
            copy(&entry.path(), &target, prepare);
        } else {
            let text = fs::read_to_string(entry.path()).expect("it is text");
            fs::write(&target, prepare(&text)).expect("it can be written");
        }
    }
}

impl Example {
    /// A request, once hosts have passed their first checks.
    fn ask(&self, head: &str) -> Response {
        let mut response = None;
        wait_until(SOON, "a host is usable", || {
            let mut client = Client::connect(self.ballast.address());
            let got = client
                .request(format!("{head}\r\n"))
                .expect("a complete response");
            let is_ready = got.head.get("retry-after").is_some() || got.status != 503;
            response = Some(got);
            is_ready
        });
        response.expect("asked at least once")
    }

    fn get(&self, host: &str, path: &str) -> Response {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n"))
    }
}

fn backends<const N: usize>() -> [Backend; N] {
    std::array::from_fn(|number| Backend::start_new(&format!("h{}", 8081 + number)))
}

/// Every example has a test here.
#[test]
fn every_example_is_tested() {
    let here = include_str!("examples.rs");
    for entry in fs::read_dir(directory()).expect("it can be read") {
        let name = entry.expect("it can be read").file_name();
        let name = name.to_str().expect("a name in UTF-8");
        if name.ends_with(".yaml") {
            let starts = ["start", "start_at", "start_with"];
            let starts = starts.map(|start| format!("{start}(\"{name}\""));
            assert!(starts.iter().any(|start| here.contains(start)), "{name}");
        }
    }
}

#[test]
fn three_applications() {
    let hosts: [Backend; 4] = backends();
    let example = start("three-apps.yaml", &hosts.each_ref());
    for (host, expected) in [
        ("shop.example.com", &["h8081", "h8082"][..]),
        ("blog.example.com", &["h8083"]),
        ("wiki.intern.example.com", &["h8084"]),
    ] {
        let response = example.get(host, "/");
        assert!(expected.contains(&response.backend()), "{host}");
    }
    assert_eq!(example.get("other.example.com", "/").status, 404);
}

#[test]
fn sites_over_https_and_a_redirect() {
    let hosts: [Backend; 9] = backends();
    let example = start("sni-redirect.yaml", &hosts.each_ref());
    let response = example.get("example.org", "/a?b");
    assert_eq!(response.head.all("location"), ["https://example.org/a?b"]);
    let challenge = example.get("example.org", "/.well-known/acme-challenge/x");
    assert_eq!(challenge.backend(), "h8089");
    for (site, expected) in [("example.com", "h8081"), ("example.org", "h8082")] {
        // The client checks the certificate against the name.
        let mut client =
            Client::tls(example.tls, site, example.authority.client()).expect("a handshake");
        let request = format!("GET / HTTP/1.1\r\nHost: {site}\r\n\r\n");
        let response = client.request(request).expect("a complete response");
        assert_eq!(response.backend(), expected);
    }
}

#[test]
fn certificates_by_acme() {
    let hosts: [Backend; 1] = backends();
    let example = start("acme.yaml", &hosts.each_ref());
    let ballast = &example.ballast;
    // The authority is away, and that is all.
    ballast.wait_for_log(&[
        "WARN",
        "certificate for example.com and 1 more not ordered, attempt 1",
    ]);
    let response = example.get("example.com", "/a");
    assert_eq!(response.head.all("location"), ["https://example.com/a"]);
    // Not the answer to a challenge of this proxy's.
    let challenge = example.get("example.com", "/.well-known/acme-challenge/x");
    assert_eq!(challenge.backend(), "h8081");
}

#[test]
fn certificates_of_certbot() {
    let hosts: [Backend; 9] = backends();
    let example = start("certbot.yaml", &hosts.each_ref());
    let response = example.get("example.net", "/a");
    assert_eq!(response.head.all("location"), ["https://example.net/a"]);
    let challenge = example.get("example.net", "/.well-known/acme-challenge/x");
    assert_eq!(challenge.backend(), "h8089");
    let client = example.authority.client();
    let mut client = Client::tls(example.tls, "example.net", client).expect("a handshake");
    let response = client.request("GET / HTTP/1.1\r\nHost: example.net\r\n\r\n");
    assert_eq!(response.expect("a response").backend(), "h8081");
}

#[test]
fn hosts_that_register_in_etcd() {
    let Some(etcd) = Etcd::start() else { return };
    let [a, backup]: [Backend; 2] = backends();
    etcd.control(&["put", "/services/web/a", &a.address().to_string()]);
    let address = etcd.address(0).to_string();
    let hosts = [backup.address()];
    let example = start_with("etcd.yaml", &hosts, &[("127.0.0.1:2379", &address)]);
    // The backup of the file serves until the first host has passed its check.
    wait_until(SOON, "the host of etcd serves", || {
        example.get("example.com", "/").backend() == "h8081"
    });
}

#[test]
fn hosts_that_register_with_consul() {
    let [a]: [Backend; 1] = backends();
    let consul = ConsulServer::start();
    let token = "0123456789abcdef0123456789abcdef";
    consul.require_token(token);
    consul.set("web", vec![ConsulInstance::at(a.address())]);
    let address = consul.address().to_string();
    let example = start_with("consul.yaml", &[], &[("127.0.0.1:8500", &address)]);
    assert_eq!(example.get("example.com", "/").backend(), "h8081");
}

#[test]
fn an_api_and_static_files() {
    let hosts: [Backend; 3] = backends();
    let example = start("api-and-static.yaml", &hosts.each_ref());
    for api in &hosts[..2] {
        api.set(Reply::ok().field("Location", "/v1/users/7"));
    }
    let response = example.get("example.com", "/api/v1/users?x");
    assert_eq!(response.head.all("location"), ["/api/v1/users/7"]);
    let targets = hosts[..2].iter().filter(|api| api.requests() > 0);
    let targets = targets.map(|api| api.last().head.word(1).to_owned());
    assert_eq!(Vec::from_iter(targets), ["/v1/users?x"]);
    let assets = example.get("example.com", "/assets/a.js");
    assert!(
        assets
            .head
            .get("cache-control")
            .expect("set")
            .contains("immutable")
    );
    example.get("example.com", "/profile/7");
    assert_eq!(hosts[2].last().head.word(1), "/index.html");
}

#[test]
fn sessions_stay_with_their_host() {
    let hosts: [Backend; 2] = backends();
    let example = start("php-sticky.yaml", &hosts.each_ref());
    let first = example.get("example.com", "/");
    let cookie = first.head.get("set-cookie").expect("a cookie");
    let cookie = cookie.split(';').next().expect("a pair");
    for _ in 0..5 {
        let again = example.ask(&format!(
            "GET / HTTP/1.1\r\nHost: example.com\r\nCookie: {cookie}\r\n"
        ));
        assert_eq!(again.backend(), first.backend());
    }
}

#[test]
fn an_application_listens_on_unix_sockets() {
    let [a, b] = backends();
    let example = start("unix-sockets.yaml", &[]);
    let path = |name: &str| example.ballast.path(name);
    let _relays = [("app-1.sock", &a), ("app-2.sock", &b)]
        .map(|(name, backend)| UnixRelay::start(path(name), backend.address()));
    let served = ["/1", "/2"].map(|path| example.get("app.example.com", path).backend().to_owned());
    assert!(
        served.iter().all(|name| name.starts_with('h')),
        "{served:?}"
    );
    let mut client = Client::try_unix(&path("front.sock")).expect("connected");
    let header = "PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n";
    let request = format!("{header}GET /front HTTP/1.1\r\nHost: app.example.com\r\n\r\n");
    assert_eq!(client.request(request).expect("a response").status, 200);
    let requests = [a.all(), b.all()].concat();
    let mut front = requests
        .iter()
        .filter(|request| request.head.word(1) == "/front");
    let front = front.next().expect("a host got it");
    assert_eq!(front.head.get("x-forwarded-for"), Some("203.0.113.9"));
}

#[test]
fn websockets_have_hosts_of_their_own() {
    let hosts: [Backend; 3] = backends();
    let example = start("websocket.yaml", &hosts.each_ref());
    assert_eq!(example.get("example.com", "/").backend(), "h8083");
    assert_ne!(example.get("example.com", "/ws/").backend(), "h8083");
}

#[test]
fn calls_of_grpc_go_to_the_hosts_of_their_service() {
    let hosts = [8081, 8082, 8083].map(|port| {
        Http2Backend::start(move |mut stream| async move {
            stream.read().await;
            let is_check = stream.request.uri().path() == "/grpc.health.v1.Health/Check";
            let status = match (is_check, port) {
                (false, 8082) => "14",
                _ => "0",
            };
            let status = HeaderValue::from_static(status);
            let trailers = [(HeaderName::from_static("grpc-status"), status)];
            if port == 8082 && !is_check {
                let mut head = http::Response::new(());
                head.headers_mut().extend(trailers);
                let _ = stream.respond.send_response(head, true);
                return;
            }
            let body = match is_check {
                true => vec![0, 0, 0, 0, 2, 8, 1],
                false => port.to_string().into_bytes(),
            };
            stream.answer(200, body, HeaderMap::from_iter(trailers));
        })
    });
    let example = start_at("grpc.yaml", &hosts.each_ref().map(Http2Backend::address));
    let mut client = Http2::connect_plain(example.ballast.address());
    for (path, port) in [("/shop.Catalog/Get", "8081"), ("/shop.Orders/Get", "8083")] {
        for _ in 0..3 {
            let mut call = request("POST", path);
            let kind = HeaderValue::from_static("application/grpc");
            call.headers_mut().insert("content-type", kind);
            let (response, mut sender) = client.open(call, false).expect("open");
            sender.send_data("".into(), true).expect("sent");
            let (response, trailers) = client.with_trailers(response);
            assert_eq!(response.body, port.as_bytes(), "{path}");
            assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
        }
    }
    assert_eq!(
        example.get("example.com", "/shop.Orders/Get").text(),
        "8083"
    );
}

#[test]
fn hosts_learn_of_clients_by_the_proxy_protocol() {
    let hosts = [(); 2].map(|()| ProxiedHost::http1());
    let addresses = hosts.each_ref().map(ProxiedHost::address);
    let example = start_at("proxy-protocol.yaml", &addresses);
    let mut client = Client::connect(example.ballast.address());
    let header = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n";
    client.send(header).expect("sent");
    let response = client.get("/").text();
    assert!(
        response.ends_with("v2 192.0.2.7:4711 198.51.100.1:80"),
        "{response}"
    );
}

#[test]
fn a_canary_gets_its_share_and_its_testers() {
    let hosts: [Backend; 3] = backends();
    let example = start("canary.yaml", &hosts.each_ref());
    let tester = example.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Canary: 1\r\n");
    assert_eq!(tester.backend(), "h8083");
    let pool = |session: usize| {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: session={session}\r\n");
        example.ask(&head).backend() == "h8083"
    };
    let canaries = Vec::from_iter((0..200).filter(|session| pool(*session)));
    assert!((2..=25).contains(&canaries.len()), "{canaries:?}");
    for session in canaries {
        assert!(pool(session), "a session stays with its version");
    }
}

#[test]
fn a_new_version_gets_copies_of_some_requests() {
    let hosts: [Backend; 3] = backends();
    let example = start("mirror.yaml", &hosts.each_ref());
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n";
    for _ in 0..20 {
        assert_ne!(example.ask(post).backend(), "h8083");
    }
    let next = &hosts[2];
    assert_eq!(next.requests(), 0);
    for _ in 0..200 {
        assert_ne!(example.get("a", "/x").backend(), "h8083");
    }
    wait_until(SOON, "copies arrive", || next.requests() > 0);
    assert!(next.requests() <= 60, "{}", next.requests());
    assert_eq!(next.last().head.get("x-mirrored"), Some("1"));
}

#[test]
fn logins_are_few_for_each_client() {
    let hosts: [Backend; 2] = backends();
    let example = start("login-rate.yaml", &hosts.each_ref());
    let login = "POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n";
    let responses = Vec::from_iter((0..12).map(|_| example.ask(login)));
    let last = responses.last().expect("there are some");
    assert_eq!(responses[0].status, 200);
    assert_eq!(last.status, 429);
    assert!(last.text().starts_with("Too many logins."));
    assert_eq!(example.get("a", "/login").status, 200);
}

#[test]
fn errors_have_pages() {
    let hosts: [Backend; 1] = backends();
    let example = start("error-pages.yaml", &hosts.each_ref());
    assert_eq!(example.get("a", "/app/").status, 200);
    let missing = example.get("a", "/<b>");
    assert_eq!(missing.status, 404);
    assert!(
        missing.text().contains("There is no page"),
        "{}",
        missing.text()
    );
    let end = example.ballast.command(&["maintenance", "on", "web"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let closed = example.get("a", "/app/");
    assert_eq!(closed.status, 503);
    assert!(
        closed.text().contains("We will be right back"),
        "{}",
        closed.text()
    );
    assert!(closed.head.get("retry-after").is_some());
}

#[test]
fn a_cdn_tells_who_the_client_is() {
    let hosts: [Backend; 2] = backends();
    let example = start("behind-cdn.yaml", &hosts.each_ref());
    let response = example.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n");
    let host = hosts.iter().find(|host| host.name() == response.backend());
    let head = host.expect("one of them").last().head;
    assert_eq!(head.all("x-real-ip"), ["203.0.113.9"]);
}

#[test]
fn each_site_has_a_file() {
    let hosts: [Backend; 3] = backends();
    let example = start("many-sites.yaml", &hosts.each_ref());
    assert_eq!(example.get("blog.example.com", "/").backend(), "h8081");
    let shops = BTreeSet::from(["h8082".to_owned(), "h8083".to_owned()]);
    let shop = example.get("shop.example.com", "/");
    assert!(shops.contains(shop.backend()));
    let unknown = example.get("other.example", "/");
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.text(), "there is no site other.example\n");
}

#[test]
fn values_come_from_the_environment_and_secrets_from_files() {
    let hosts: [Backend; 1] = backends();
    let example = start("secrets.yaml", &hosts.each_ref());
    let response = example.get("a", "/");
    assert_eq!(response.status, 200);
    assert!(
        response
            .head
            .get("set-cookie")
            .expect("set")
            .starts_with("srv=")
    );
    assert_eq!(hosts[0].last().head.all("x-environment"), ["test"]);
}

#[test]
fn one_name_leads_to_the_other() {
    let hosts: [Backend; 1] = backends();
    let example = start("www-to-apex.yaml", &hosts.each_ref());
    let response = example.get("www.example.com", "/a?b");
    assert_eq!(response.status, 308);
    assert_eq!(response.head.all("location"), ["https://example.com/a?b"]);
    let old = example.get("example.com", "/old-shop");
    assert_eq!(
        (old.status, old.head.all("location")),
        (301, vec!["https://shop.example.com/"])
    );
    assert_eq!(example.get("example.com", "/old-shop/x").status, 200);
}

#[test]
fn browsers_are_told_how_to_protect_their_users() {
    let hosts: [Backend; 1] = backends();
    let example = start("security-headers.yaml", &hosts.each_ref());
    hosts[0].set(Reply::ok().field("Server", "secret/1.0"));
    let head = example.get("a", "/").head;
    assert_eq!(head.all("server"), [] as [&str; 0]);
    assert_eq!(head.all("x-content-type-options"), ["nosniff"]);
    assert_eq!(head.all("content-security-policy"), ["default-src 'self'"]);
    assert_eq!(hosts[0].last().head.all("x-request-from"), ["127.0.0.1"]);
}

#[test]
fn a_password_and_a_login_service_let_clients_in() {
    let hosts: [Backend; 2] = backends();
    let [app, login] = &hosts;
    let example = start("auth.yaml", &hosts.each_ref());
    login.set(Reply::status(302).field("Location", "/login/"));
    let refused = example.get("a", "/");
    assert_eq!(
        (refused.status, refused.head.all("location")),
        (302, vec!["/login/"])
    );
    login.set(Reply::ok().field("Remote-User", "alice"));
    assert_eq!(example.get("a", "/").backend(), app.name());
    assert_eq!(app.last().head.all("remote-user"), ["alice"]);
    assert_eq!(example.get("a", "/login/").backend(), login.name());

    let refused = example.get("a", "/reports/");
    assert_eq!(refused.status, 401);
    let challenge = r#"Basic realm="Reports", charset="UTF-8""#;
    assert_eq!(refused.head.all("www-authenticate"), [challenge]);
    let password = "Authorization: Basic YmFsbGFzdDpiYWxsYXN0\r\n";
    let served = example.ask(&format!("GET /reports/ HTTP/1.1\r\nHost: a\r\n{password}"));
    assert_eq!(served.backend(), app.name());
    assert_eq!(app.last().head.all("authorization"), [""; 0]);
    assert_eq!(app.last().head.all("remote-user"), ["ballast"]);
}

#[test]
fn pages_are_compressed() {
    let hosts: [Backend; 1] = backends();
    let example = start("compression.yaml", &hosts.each_ref());
    let coding = |path: &str, media_type: &str| {
        let reply = Reply::ok().field("Content-Type", media_type);
        hosts[0].set(reply.body([b'a'; 600]));
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, br\r\n");
        let head = example.ask(&head).head;
        head.get("content-encoding").map(str::to_owned)
    };
    assert_eq!(coding("/", "text/html").as_deref(), Some("br"));
    assert_eq!(coding("/", "image/png"), None);
    assert_eq!(coding("/account/", "text/html"), None);
    let events = coding("/events/", "text/event-stream");
    assert_eq!(events.as_deref(), Some("br"));
}

#[test]
fn names_are_sources_of_hosts() {
    let hosts: [Backend; 1] = backends();
    for example in [
        start("dns-names.yaml", &hosts.each_ref()),
        start("kubernetes.yaml", &hosts.each_ref()),
    ] {
        let shown = example.ballast.command(&["status"]).stdout;
        let mut lines = shown.lines();
        let is_shown = lines.any(|line| line.starts_with("source dns localhost: "));
        assert!(is_shown, "{shown}");
        wait_until(SOON, "an address of the name serves", || {
            example.get("a", "/").status == 200
        });
    }
}

#[test]
fn a_member_of_a_cluster() {
    let hosts: [Backend; 2] = backends();
    let example = start("cluster.yaml", &[&hosts[0], &hosts[1]]);
    assert_eq!(example.get("a", "/").status, 200);
    // There is no etcd here: it serves all the same, and refuses changes.
    let shown = example.ballast.command(&["status", "--cluster"]).stdout;
    let expected = "cluster prod as edge-1: 1 member, etcd lost for";
    assert!(shown.contains(expected), "{shown}");
    let host = hosts[0].address().to_string();
    let refused = example.ballast.command(&["drain", &host]);
    assert!(
        refused.stderr.contains("nothing was changed"),
        "{}",
        refused.stderr
    );
}
