//! Routes with `basic_auth` let in the users of their file alone. Over HTTP/1.1 and HTTP/2.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::support::{
    Backend, BothProtocols, Client, Next, Reply, SOON, Setup, Wire, file, get, wait_until,
};

/// The passwords are `secret` and `geheim`.
const USERS: &str = "# users
alice:$2y$04$TxhMqHv3kFwzVb8cRkP1aO6aQx/nk0Gr9PrFp6PhCk9pCQGTJ1312
bob:$2y$04$Kc2sVd9rTf5wGh7xJn3LmOZghezQbIbwMeuSJ0J06h592LV3GsTxi
";
/// The password is `changed`.
const CHANGED: &str = "alice:$2y$04$TxhMqHv3kFwzVb8cRkP1aONZvjKDMm4MhpvTo0bsdCY3YjnBkEzgu\n";
/// The password is `secret`; a check takes 16 times as long.
const SLOW: &str = "slow:$2y$08$TxhMqHv3kFwzVb8cRkP1aOiKsYtzdUvm6dBPyOq9CeNEbeHZqD36y\n";

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

fn authorization(name: &str, password: &str) -> String {
    format!("Authorization: {}\r\n", basic(name, password))
}

/// A pool of one backend, and a file of users.
fn users(text: &str) -> (Backend, TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let users = file(folder.path(), "users", text);
    (Backend::start_new("a"), folder, users)
}

#[test]
fn others_get_a_challenge_before_the_route_does_anything() {
    let (backend, _folder, users) = users(USERS);
    let users = users.display();
    let setup = Setup::of(&[&backend])
        .pool("maintenance: { message: soon }")
        .top(&format!(
            r#"routes:
- {{ path: /pool, pool: web, basic_auth: {users} }}
- {{ path: /respond, respond: {{ body: mine }}, basic_auth: {{ file: {users}, realm: 'the "inner" part' }} }}
- {{ path: /redirect, redirect: /respond, basic_auth: {users} }}
- {{ path: /nowhere, respond: 204, deny: [127.0.0.1], basic_auth: {users} }}
- {{ path: /once, respond: 204, rate: {{ requests: 1/h, burst: 1 }}, basic_auth: {users} }}
errors: {{ 401: {{ body: "<p>{{message}}", type: text/html }} }}"#
        ))
        .top("access_log: { path: access.log, format: json }");
    let mut both = BothProtocols::start(&setup);
    let (right, other) = (basic("alice", "secret"), basic("bob", "geheim"));
    let wrong = [
        basic("alice", "geheim"),
        basic("alice", ""),
        basic("alice", "secret\0"),
        basic("carol", "secret"),
        basic("", ""),
        STANDARD.encode("alice:secret"),
        format!("Bearer {}", STANDARD.encode("alice:secret")),
        format!("Basic {}", STANDARD.encode("alice")),
        "Basic !".to_owned(),
        "Basic".to_owned(),
    ];
    for (path, status) in [("/pool", 503), ("/respond", 200), ("/redirect", 308)] {
        let mut refused = Vec::from(both.ask("GET", ("test", path), &[]));
        for wrong in &wrong {
            let field = ("Authorization", wrong.as_str());
            refused.extend(both.ask("GET", ("test", path), &[field]));
        }
        let twice = [("Authorization", &*right), ("Authorization", &*right)];
        refused.extend(both.ask("GET", ("test", path), &twice));
        for seen in refused {
            assert_eq!(seen.status, 401, "{path}: {seen:?}");
            let realm = match path {
                "/respond" => r#"the \"inner\" part"#,
                _ => "restricted",
            };
            let challenge = format!(r#"Basic realm="{realm}", charset="UTF-8""#);
            assert_eq!(seen.all("www-authenticate"), [challenge]);
            assert_eq!(seen.body, "<p>the name or the password is wrong or missing");
        }
        for right in [&right, &other] {
            for seen in both.ask("GET", ("test", path), &[("Authorization", right)]) {
                assert_eq!(seen.status, status, "{path}: {seen:?}");
            }
        }
    }
    for seen in both.ask("HEAD", ("test", "/respond"), &[]) {
        assert_eq!((seen.status, seen.body.as_str()), (401, ""));
    }
    // Whose address is refused gets no challenge, and rates count wrong passwords.
    for seen in both.ask("GET", ("test", "/nowhere"), &[]) {
        assert_eq!(seen.status, 403);
    }
    for status in [401, 429] {
        for seen in both.ask("GET", ("test", "/once"), &[]) {
            assert_eq!(seen.status, status);
        }
    }
    // Hosts might read it as a path of another route.
    for seen in both.ask("GET", ("test", "/x%2f"), &[]) {
        assert_eq!(seen.status, 400);
    }
    assert_eq!(backend.requests(), 0);
    for ballast in [&both.plain, &both.over_tls] {
        wait_until(SOON, "the lines of the access log", || {
            let log = std::fs::read_to_string(ballast.path("access.log"));
            log.is_ok_and(|log| log.contains(r#""ending":"unauthorized""#))
        });
    }
}

#[test]
fn users_reach_the_host_with_all_of_their_request() {
    let (backend, _folder, users) = users(USERS);
    let setup = Setup::of(&[&backend]).top(&format!(
        "routes: [{{ pool: web, basic_auth: {}, request_headers: {{ set: {{ Remote-User: \"{{user}}\" }} }}, \
         response_headers: {{ set: {{ X-User: \"<{{user}}>\" }} }} }}]",
        users.display()
    ));
    let mut both = BothProtocols::start(&setup);
    let right = basic("alice", "secret");
    let fields = [("Authorization", &*right), ("Remote-User", "root")];
    for seen in both.ask("GET", ("test", "/x?y"), &fields) {
        assert_eq!((seen.status, seen.body.as_str()), (200, "a\n"));
        assert_eq!(seen.field("x-user"), "<alice>");
        assert_eq!(backend.last().head.all("authorization"), [right.as_str()]);
        assert_eq!(backend.last().head.all("remote-user"), ["alice"]);
    }
    let wrong = basic("alice", "wrong");
    for seen in both.ask("GET", ("test", "/"), &[("Authorization", &wrong)]) {
        assert_eq!((seen.status, seen.field("x-user")), (401, "<>"));
    }
    let body = [b'x'; 100_000];
    let mut client = Client::connect(both.plain.address());
    // The first check is slow, the others are not.
    for password in ["geheim", "secret", "geheim"] {
        let name = if password == "geheim" { "bob" } else { "alice" };
        let head = format!(
            "POST /upload HTTP/1.1\r\nHost: test\r\n{}Content-Length: {}\r\n\r\n",
            authorization(name, password),
            body.len()
        );
        let request = [head.as_bytes(), &body].concat();
        assert_eq!(client.request(request).expect("a response").status, 200);
        assert!(backend.last().body == body);
    }
    // The connection stays usable after a refused upload.
    let refused = client.post("/upload", b"body");
    assert_eq!(refused.status, 401);
    let served = client.get_with("/", &authorization("alice", "secret"));
    assert_eq!(served.status, 200);
    assert_eq!(
        both.http2.post("/x", &body).expect("a response").status,
        401
    );
}

#[test]
fn upgrades_need_the_password_as_well() {
    let (backend, _folder, users) = users(USERS);
    backend.set(Reply::script(|_, wire: &mut Wire| {
        wire.send("HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")?;
        Ok(Next::Close)
    }));
    let ballast = Setup::of(&[&backend])
        .top(&format!(
            "routes: [{{ pool: web, basic_auth: {} }}]",
            users.display()
        ))
        .start();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.get_with("/", upgrade).status, 401);
    assert_eq!(backend.requests(), 0);
    let mut client = Client::connect(ballast.address());
    let fields = format!("{upgrade}{}", authorization("bob", "geheim"));
    assert_eq!(client.get_with("/", &fields).status, 101);
    let sent = client.wire().read_some(2).expect("bytes of the host");
    assert_eq!(sent, b"hi");
}

#[test]
fn a_reload_changes_passwords_at_once() {
    let (backend, _folder, users) = users(USERS);
    let setup = Setup::of(&[&backend]).top(&format!(
        "routes: [{{ pool: web, basic_auth: {} }}]",
        users.display()
    ));
    let ballast = setup.start();
    let status = |name: &str, password: &str| {
        let mut client = Client::connect(ballast.address());
        let fields = authorization(name, password);
        client.get_with("/", &fields).status
    };
    assert_eq!(status("alice", "secret"), 200);
    assert_eq!(status("bob", "geheim"), 200);
    assert_eq!(status("alice", "changed"), 401);

    std::fs::write(&users, "alice:$apr1$salt$hash\n").expect("written");
    let line = ballast.reload_by_sighup(&setup.yaml());
    let problem = format!(
        "routes[0].basic_auth: line 1 of `{}`: the password is an MD5 hash (apr1); only bcrypt hashes are taken",
        users.display()
    );
    assert!(line.contains(&problem), "{line}");
    assert!(!line.contains("alice"), "{line}");
    assert_eq!(status("alice", "secret"), 200);

    std::fs::write(&users, CHANGED).expect("written");
    let line = ballast.reload_by_sighup(&setup.yaml());
    assert!(line.contains("reloaded in place: routes"), "{line}");
    assert!(!line.contains("alice"), "{line}");
    assert_eq!(status("alice", "secret"), 401);
    assert_eq!(status("bob", "geheim"), 401);
    assert_eq!(status("alice", "changed"), 200);
}

#[test]
fn a_flood_of_wrong_passwords_delays_no_other_requests() {
    const FLOOD: usize = 150;
    let (backend, _folder, users) = users(SLOW);
    let ballast = Setup::of(&[&backend])
        .top(&format!(
            "routes: [{{ path: /private, pool: web, basic_auth: {} }}, {{ pool: web }}]",
            users.display()
        ))
        .start();
    let private = |fields: &str| {
        let mut client = Client::connect(ballast.address());
        client.get_with("/private", fields)
    };
    assert_eq!(private(&authorization("slow", "secret")).status, 200);
    let clients = (0..FLOOD).map(|_| Client::connect(ballast.address()));
    let mut clients = Vec::from_iter(clients);
    for (number, client) in clients.iter_mut().enumerate() {
        let fields = authorization("slow", &number.to_string());
        let request = format!("GET /private HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
        client.send(request).expect("sent");
    }
    // A known password needs no check.
    assert_eq!(private(&authorization("slow", "secret")).status, 200);
    assert_eq!(get(ballast.address(), "/").status, 200);
    let responses = clients.iter_mut().map(|client| client.read_response(false));
    let responses = Vec::from_iter(responses.map(|response| response.expect("a response")));
    let busy = responses.iter().filter(|response| response.status == 503);
    let busy = Vec::from_iter(busy);
    let refused = responses.iter().filter(|response| response.status == 401);
    assert_eq!(refused.count() + busy.len(), FLOOD);
    assert!(!busy.is_empty());
    for response in busy {
        assert_eq!(response.head.get("retry-after"), Some("1"));
    }
}
