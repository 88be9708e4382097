//! Certificates that clients show: who gets in, and what hosts learn of them.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::HandshakeKind::Full;
use rustls::version::TLS13;
use serde_json::json;

use crate::admin::with_admin;
use crate::support::http2::{Http2, request};
use crate::support::{
    Authority, Backend, BothProtocols, Client, Head, Identity, SOON, Setup, TlsSite, alert, file,
    get, handshake_kind, wait_until,
};

/// The fields about the client's certificate.
const FIELDS: [&str; 6] = [
    "X-SSL-Client-Verify",
    "X-SSL-Client-Subject-DN",
    "X-SSL-Client-Issuer-DN",
    "X-SSL-Client-Serial",
    "X-SSL-Client-Fingerprint",
    "X-SSL-Client-Not-After",
];

#[track_caller]
fn assert_refused(
    site: &TlsSite,
    address: SocketAddr,
    identity: Option<&Identity>,
    expected: &str,
) {
    for client in site.clients(identity) {
        let alert = alert(address, &client).expect("the handshake is refused");
        assert_eq!(alert, format!("received fatal alert: {expected}"));
    }
}

#[track_caller]
fn assert_served(site: &TlsSite, address: SocketAddr, identity: Option<&Identity>) {
    for client in site.clients(identity) {
        // No session is resumed: that would spare the client the verification.
        for _ in 0..2 {
            assert_eq!(handshake_kind(address, &client).expect("served"), Full);
        }
    }
}

/// A request that claims a certificate, in several spellings.
fn forged() -> String {
    let names = FIELDS.iter().flat_map(|name| {
        let spellings = [
            name.to_string(),
            name.to_lowercase(),
            name.replace('-', "_"),
        ];
        spellings.map(|name| format!("{name}: forged\r\n"))
    });
    let fields = String::from_iter(names);
    format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-SSL-Client-Cert: forged\r\n{fields}\r\n")
}

/// The fields of a request about the client's certificate; no other claims one.
#[track_caller]
fn told(head: &Head) -> [Vec<&str>; 6] {
    let forged = head.fields.iter().find(|(_, value)| value == "forged");
    assert_eq!(forged, None);
    FIELDS.map(|name| head.all(&name.to_lowercase()))
}

#[test]
fn only_clients_with_a_good_certificate_get_in() {
    let site = TlsSite::new();
    let [good, revoked] = ["good", "revoked"].map(|name| site.clients.issue_named(name));
    file(
        site.path(),
        "clients.crl",
        &site.clients.revoke(&[&revoked], 2099),
    );
    let crl = format!(", crl: {}/clients.crl", site.path().display());
    let foreign = Authority::new("clients").issue_named("good");
    let expired = site.clients.issue_expired(&["client"]);
    for (mode, without) in [("", false), (", mode: optional", true)] {
        let ballast = site.setup(&site.asking(&format!("{crl}{mode}"))).start();
        let address = ballast.address();
        assert_served(&site, address, Some(&good));
        match without {
            true => assert_served(&site, address, None),
            false => assert_refused(&site, address, None, "CertificateRequired"),
        }
        assert_refused(&site, address, Some(&revoked), "CertificateRevoked");
        assert_refused(&site, address, Some(&expired), "CertificateExpired");
        let [tls12, tls13] = site.clients(Some(&foreign));
        for client in [tls12, tls13] {
            let alert = alert(address, &client).expect("the handshake is refused");
            assert!(alert.contains("received fatal alert"), "{alert}");
        }
    }
}

#[test]
fn a_reload_takes_in_authorities_and_revocations() {
    let site = TlsSite::new();
    let [one, other] = ["one", "other"].map(|name| site.clients.issue_named(name));
    let successor = Authority::new("successor");
    let next = successor.issue_named("next");
    let list = |revoked: &[&Identity], until| {
        let text = site.clients.revoke(revoked, until) + &successor.revoke(&[], until);
        fs::write(site.path().join("clients.crl"), text).expect("written");
    };
    list(&[], 2099);
    let crl = format!(", crl: {}/clients.crl", site.path().display());
    let ballast = site.setup(&site.asking(&crl)).start();
    let address = ballast.address();
    for identity in [&one, &other] {
        assert_served(&site, address, Some(identity));
    }
    assert_refused(&site, address, Some(&next), "UnknownCA");

    list(&[&one], 2099);
    let authorities = site.clients.pem() + &successor.pem();
    fs::write(site.path().join("clients.pem"), authorities).expect("written");
    let reload = ballast.reload();
    for key in ["ca", "crl"] {
        let line = format!("client_certificates.{key} has new content");
        assert!(reload.stdout.contains(&line), "{reload:?}");
    }
    assert_refused(&site, address, Some(&one), "CertificateRevoked");
    assert_served(&site, address, Some(&other));
    assert_served(&site, address, Some(&next));

    // What cannot be used changes nothing.
    fs::write(site.path().join("clients.crl"), site.clients.pem()).expect("written");
    let reload = ballast.reload();
    assert!(
        reload.stderr.contains("not a revocation list"),
        "{reload:?}"
    );
    assert_refused(&site, address, Some(&one), "CertificateRevoked");
    // Nor can a list be trusted that may lack the latest revocations.
    list(&[&one], 2021);
    assert_eq!(ballast.reload().code, Some(0));
    for client in site.clients(Some(&other)) {
        assert!(alert(address, &client).is_some());
    }

    // The listener may stop asking, and begin again.
    let open = site.listeners(&site.asking(""));
    let (open, _) = open
        .split_once(", client_certificates")
        .expect("the section");
    let line = ballast.reload_by_sighup(
        &Setup::of(&[&site.backend])
            .top(&format!("{open} }} }}]"))
            .yaml(),
    );
    assert!(line.contains("client_certificates"), "{line}");
    let [tls12, tls13] = site.clients(None);
    for client in [&tls12, &tls13] {
        handshake_kind(address, client).expect("served");
    }
    list(&[&one], 2099);
    let line = ballast.reload_by_sighup(&site.setup(&site.asking(&crl)).yaml());
    assert!(line.contains("client_certificates"), "{line}");
    // A session from before is worth nothing.
    for client in [&tls12, &tls13] {
        assert_eq!(
            alert(address, client).as_deref(),
            Some("received fatal alert: CertificateRequired")
        );
    }
}

#[test]
fn a_session_of_another_listener_opens_nothing() {
    let site = TlsSite::new();
    let folder = site.path().display();
    let second = crate::support::free();
    let listeners = site.listeners(&site.asking(""));
    let open = format!(
        ", {{ address: \"{second}\", tls: {{ certificates: {{ certificate: {folder}/a.crt, key: {folder}/a.key }} }} }}]"
    );
    let both = listeners.strip_suffix(']').expect("a list").to_owned() + &open;
    let ballast = Setup::of(&[&site.backend]).top(&both).start();
    for client in site.clients(None) {
        handshake_kind(second, &client).expect("served");
        let alert = alert(ballast.address(), &client);
        assert_eq!(
            alert.as_deref(),
            Some("received fatal alert: CertificateRequired")
        );
    }
}

#[test]
fn hosts_learn_of_the_certificate_and_no_client_can_forge_it() {
    let site = TlsSite::new();
    let identity = site.clients.issue_between(&["client"], 2020, 2099);
    let setup = site.setup(&site.asking(", mode: optional")).top(
        "headers: { underscores: pass }\nroutes: [{ path: /admin/, pool: web, client_certificate: required }, { pool: web }]",
    );
    let ballast = setup.start();
    let address = ballast.address();
    let assert_told = |identity: Option<&Identity>| {
        let head = site.backend.last().head;
        let told = told(&head);
        match identity {
            None => {
                assert_eq!(told[0], ["NONE"]);
                assert!(told[1..].iter().all(Vec::is_empty), "{told:?}");
            }
            Some(_) => {
                assert_eq!(told[0], ["SUCCESS"]);
                assert_eq!(told[1], ["CN=rcgen self signed cert"]);
                assert_eq!(told[2], ["CN=clients"]);
                assert!(told[3][0].bytes().all(|byte| byte.is_ascii_hexdigit()));
                assert_eq!(told[4][0].len(), 64);
                assert_eq!(told[5], ["2099-01-01T00:00:00Z"]);
            }
        }
    };
    for identity in [None, Some(&identity)] {
        let client = site.servers.client_with(identity, &[&TLS13]);
        let mut http1 = Client::tls(address, "a.test", Arc::clone(&client)).expect("connected");
        assert_eq!(http1.request(forged()).expect("a response").status, 200);
        assert_told(identity);
        let mut client = (*client).clone();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let mut http2 = Http2::connect(address, Arc::new(client));
        let mut forged = request("GET", "/");
        for name in FIELDS {
            for name in [name.to_lowercase(), name.to_lowercase().replace('-', "_")] {
                let name = http::HeaderName::try_from(name).expect("a name");
                let value = http::HeaderValue::from_static("forged");
                forged.headers_mut().insert(name, value);
            }
        }
        assert_eq!(http2.ask(forged).expect("a response").status, 200);
        assert_told(identity);

        // The route lets in those with a certificate.
        let status = if identity.is_some() { 200 } else { 403 };
        let requests = site.backend.requests();
        let response = http1.get("/admin/");
        assert_eq!(response.status, status, "{}", response.text());
        assert_eq!(http2.get("/admin/").status, status);
        let served = if identity.is_some() { 2 } else { 0 };
        assert_eq!(site.backend.requests(), requests + served);
    }
}

#[test]
fn claims_are_dropped_where_no_certificate_is_asked_for() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("headers: { underscores: pass }")
        .start();
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.request(forged()).expect("a response").status, 200);
    let head = backend.last().head;
    assert!(told(&head).iter().all(Vec::is_empty));
}

#[test]
fn hosts_get_the_certificate_of_the_pool() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let [servers, clients] = ["servers", "clients"].map(Authority::new);
    servers.write(folder.path(), "servers.pem");
    let host = servers.issue(&["127.0.0.1"]).server_for(&clients);
    let backend = Backend::start_tls("a", host);
    let good = clients.issue_named("proxy");
    good.write(folder.path(), "good");
    good.write(folder.path(), "client");
    let path = folder.path().display().to_string();
    let setup = |further: &str| {
        let tls = format!("tls: {{ ca: {path}/servers.pem{further} }}");
        Setup::of(&[&backend]).pool(&tls)
    };
    let mut without = BothProtocols::start(&setup(""));
    for response in without.ask("GET", ("test", "/"), &[]) {
        assert_eq!(response.status, 502);
    }
    assert_eq!(backend.requests(), 0);

    let shown = format!(", certificate: {path}/client.crt, key: {path}/client.key");
    let setup =
        setup(&shown).health("{ type: http, path: /healthz, interval: 500ms, timeout: 500ms }");
    let mut both = BothProtocols::start(&setup);
    for response in both.ask("GET", ("test", "/"), &[]) {
        assert_eq!(response.status, 200);
    }
    assert!(backend.health_checks() > 0);
    // The files are read again.
    let foreign = Authority::new("clients").issue_named("proxy");
    foreign.write(folder.path(), "client");
    let reload = both.plain.reload();
    for key in ["certificate", "key"] {
        let line = format!("pools.web.tls.{key} has new content");
        assert!(reload.stdout.contains(&line), "{reload:?}");
    }
    assert_eq!(get(both.plain.address(), "/").status / 100, 5);
    good.write(folder.path(), "client");
    assert_eq!(both.plain.reload().code, Some(0));
    wait_until(SOON, "the host is used again", || {
        get(both.plain.address(), "/").status == 200
    });
}

/// An interval so short that no test waits for it.
const CHECK: &str = "server: { certificate_check: 20ms }";

#[test]
fn renewed_authorities_and_revocations_need_no_reload() {
    let site = TlsSite::new();
    let [one, other] = ["one", "other"].map(|name| site.clients.issue_named(name));
    let successor = Authority::new("successor");
    let next = successor.issue_named("next");
    let list = |revoked: &[&Identity], until| {
        let text = site.clients.revoke(revoked, until) + &successor.revoke(&[], until);
        file(site.path(), "clients.crl", &text);
    };
    list(&[], 2098);
    let crl = format!(", crl: {}/clients.crl", site.path().display());
    let (setup, admin) = with_admin(site.setup(&site.asking(&crl)).top(CHECK));
    let ballast = setup.start();
    let address = ballast.address();
    assert_served(&site, address, Some(&one));
    assert_refused(&site, address, Some(&next), "UnknownCA");

    list(&[&one], 2099);
    ballast.wait_for_log(&[
        "revocation lists renewed",
        "clients.crl`, current until 2099-01-01",
    ]);
    assert_refused(&site, address, Some(&one), "CertificateRevoked");
    assert_served(&site, address, Some(&other));
    let authorities = site.clients.pem() + &successor.pem();
    file(site.path(), "clients.pem", &authorities);
    ballast.wait_for_log(&["authorities of clients renewed", "clients.pem"]);
    assert_served(&site, address, Some(&next));

    // What cannot be used, or would let no client in, changes nothing.
    file(site.path(), "clients.crl", &site.clients.pem());
    ballast.wait_for_log(&["WARN", "clients.crl` not taken in", "not a revocation list"]);
    list(&[], 2021);
    ballast.wait_for_log(&["WARN", "clients.crl` not taken in", "expired at 2021-01-01"]);
    file(site.path(), "clients.pem", "nothing");
    ballast.wait_for_log(&["WARN", "clients.pem` not taken in", "holds no certificate"]);
    let status = ballast.command(&["status"]);
    for name in ["clients.crl", "clients.pem"] {
        let line = format!("{name} not taken in: ");
        assert!(status.stdout.contains(&line), "{status:?}");
    }
    let mut client = Client::connect(admin);
    let metrics = client.request("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = metrics.expect("a response").text();
    let shown = site.path().join("clients.crl").display().to_string();
    // 2099-01-01.
    let expiry =
        format!("ballast_revocation_list_expiry_timestamp_seconds{{file=\"{shown}\"}} 4070908800");
    for line in ["ballast_certificates_refused 2", &expiry] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert_refused(&site, address, Some(&one), "CertificateRevoked");
    assert_served(&site, address, Some(&other));
}

#[test]
fn the_certificate_and_the_authorities_of_a_pool_need_no_reload() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let [servers, clients] = ["servers", "clients"].map(Authority::new);
    let trust = |authority: &Authority| authority.write(folder.path(), "servers.pem");
    trust(&servers);
    let host = servers.issue(&["127.0.0.1"]).server_for(&clients);
    let backend = Backend::start_tls("a", host);
    let [good, foreign] = [&clients, &Authority::new("clients")].map(|it| it.issue_named("proxy"));
    good.write(folder.path(), "client");
    let path = folder.path().display();
    let setup = Setup::of(&[&backend])
        .top(CHECK)
        .health("none")
        .pool("ejection: none")
        .pool(&format!(
            "tls: {{ ca: {path}/servers.pem, certificate: {path}/client.crt, key: {path}/client.key }}"
        ));
    let ballast = setup.start();
    let address = ballast.address();
    let is_served = || get(address, "/").status == 200;
    let renewed = |what: &str, times: usize| {
        wait_until(SOON, what, || ballast.log_with(&[what]).len() == times);
    };
    assert!(is_served() && is_served());
    assert_eq!(backend.connections(), 1, "the connection is kept");

    // A connection from before is not used under another name, nor with other authorities.
    foreign.write(folder.path(), "client");
    renewed("certificate of the pool web renewed", 1);
    assert!(!is_served());
    good.write(folder.path(), "client");
    renewed("certificate of the pool web renewed", 2);
    assert!(is_served());
    trust(&clients);
    renewed("authorities of the pool web renewed", 1);
    assert!(!is_served());
    trust(&servers);
    renewed("authorities of the pool web renewed", 2);
    assert!(is_served());

    // What cannot be used changes nothing.
    file(folder.path(), "client.key", &foreign.key_pem());
    ballast.wait_for_log(&["WARN", "client.crt` not taken in", "does not belong to"]);
    clients
        .issue_expired(&["client"])
        .write(folder.path(), "client");
    ballast.wait_for_log(&["WARN", "client.crt` not taken in", "expired at 2002-01-01"]);
    file(folder.path(), "servers.pem", "nothing");
    ballast.wait_for_log(&["WARN", "servers.pem` not taken in", "holds no certificate"]);
    assert!(is_served());
}

#[test]
fn the_certificate_is_in_the_access_log_and_in_texts_and_explained() {
    let site = TlsSite::new();
    let identity = site.clients.issue_named("ann");
    let plain = crate::support::free();
    let listeners = site.listeners(&site.asking(", mode: optional"));
    let both = format!(
        "{}, \"{plain}\"]",
        listeners.strip_suffix(']').expect("a list")
    );
    let text = "X-Client: \"{client_verify}/{client_subject}\"";
    let setup = Setup::of(&[&site.backend])
        .top(&both)
        .top("access_log: { path: access.log }")
        .top(&format!(
            "routes: [{{ path: /admin/, pool: web, client_certificate: required }}, \
             {{ pool: web, request_headers: {{ set: {{ {text} }} }}, response_headers: {{ set: {{ {text} }} }} }}]"
        ));
    let ballast = setup.start();
    let address = ballast.address();
    let expected = [("NONE", None), ("SUCCESS", Some("CN=ann"))];
    for (identity, (verify, subject)) in [None, Some(&identity)].into_iter().zip(expected) {
        let client = site.servers.client_with(identity, &[&TLS13]);
        let mut http1 = Client::tls(address, "a.test", Arc::clone(&client)).expect("connected");
        let mut client = (*client).clone();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let mut http2 = Http2::connect(address, Arc::new(client));
        let text = format!("{verify}/{}", subject.unwrap_or_default());
        assert_eq!(http1.get("/").head.all("x-client"), [&*text]);
        assert_eq!(site.backend.last().head.all("x-client"), [&*text]);
        assert_eq!(http2.get("/").fields["x-client"], *text);
        assert_eq!(site.backend.last().head.all("x-client"), [&*text]);
    }
    assert_eq!(get(plain, "/").head.all("x-client"), ["/"]);
    let lines = ballast.access_log(5);
    let certificates = Vec::from_iter(
        lines
            .iter()
            .map(|line| [line.get("client_verify"), line.get("client_subject")]),
    );
    let [none, ann] = expected.map(|(verify, subject)| [json!(verify), json!(subject)]);
    let asked = [&none, &none, &ann, &ann].map(|values| values.each_ref().map(Some));
    assert_eq!(certificates[..4], asked);
    assert_eq!(certificates[4], [None, None]);

    let explained = |args: &[&str]| {
        let args = [&["explain", "--path", "/admin/"], args].concat();
        ballast.command(&args).stdout
    };
    assert!(explained(&[]).contains("goes nowhere: its route requires a certificate"));
    let with = explained(&["--client-certificate", "CN=ann"]);
    assert!(with.contains("goes to "), "{with}");
}
