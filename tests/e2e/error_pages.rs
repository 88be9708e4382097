//! Responses of the proxy's own have the pages of the configuration, or JSON for clients that ask for it. Over HTTP/1.1 and
//! HTTP/2.

use crate::support::{
    Backend, BothProtocols, Client, DeadHost, Next, Reply, SOON, Setup, get, wait_for, wait_until,
};

const BROWSER: (&str, &str) = ("Accept", "text/html,application/xml;q=0.9,*/*;q=0.8");
const JSON: (&str, &str) = ("Accept", "application/json, text/plain, */*");
const ID: (&str, &str) = ("X-Request-Id", "from-a-client");

#[test]
fn an_error_of_the_proxy_has_the_page_of_its_route_or_else_of_the_file() {
    let (backend, dead) = (Backend::start_new("a"), DeadHost::new());
    let setup = Setup::of(&[&backend])
        .pool("retries: none")
        .pool(&format!(
            "ejection: none\n  down: {{ hosts: [\"{}\"], health_check: {{ interval: 1s }} }}",
            dead.address()
        ))
        .top("timeouts: { read: 300ms }")
        .top("limits: { body: 10 }")
        .top("trusted_proxies: [127.0.0.1]")
        .top(
            r#"routes:
- path: /down
  pool: down
  errors: { 503: { body: "{\"why\": \"{message}\", \"path\": \"{path}\"}", type: application/problem+json } }
- { path: /own, respond: { status: 404, body: mine } }
- path: /limited
  pool: web
  rate: { requests: 1, burst: 1 }
  errors: { 429: { body: "slow down, {request_id}" } }
  response_headers: { set: { X-Status: "of the route" } }
- { path: /web, pool: web }
errors:
  404: { body: "<p>no {uri} at {host}", type: text/html }
  500-599: { body: "<h1>{status}: {message}</h1>", type: text/html }
  413: { body: "at most 10" }"#,
        );
    let mut both = BothProtocols::start(&setup);
    let html = |status, why| format!("<h1>{status}: {why}</h1>");

    for seen in both.ask("GET", ("test", "/none?'a'&b"), &[BROWSER]) {
        assert_eq!(seen.status, 404);
        assert_eq!(seen.body, "<p>no /none?&#39;a&#39;&amp;b at test");
        assert_eq!(seen.field("content-type"), "text/html");
        assert_eq!(seen.field("vary"), "Accept");
    }
    for seen in both.ask("HEAD", ("test", "/none"), &[]) {
        assert_eq!((seen.status, seen.body.as_str()), (404, ""));
        let length = "<p>no /none at test".len().to_string();
        assert_eq!(seen.field("content-length"), length);
    }
    for seen in both.ask("GET", ("test", "/none"), &[JSON, ID]) {
        assert_eq!(seen.field("content-type"), "application/json");
        assert_eq!(
            seen.body,
            "{\"status\":404,\"error\":\"no route for this host and path\",\"request_id\":\"from-a-client\"}\n"
        );
    }
    // The page is JSON already. Retry-After and Allow are those of the proxy.
    for seen in both.ask("GET", ("test", "/down"), &[JSON]) {
        assert_eq!(seen.status, 503);
        assert_eq!(seen.field("content-type"), "application/problem+json");
        assert_eq!(
            seen.body,
            r#"{"why": "no host can take requests now", "path": "/down"}"#
        );
    }
    for seen in both.ask("TRACE", ("test", "/web"), &[JSON]) {
        assert_eq!(seen.status, 405);
        assert!(seen.field("allow").contains("GET"), "{seen:?}");
        assert!(seen.body.contains("TRACE is not served"), "{seen:?}");
    }
    for seen in both.ask("GET", ("test", "/own"), &[JSON]) {
        assert_eq!((seen.status, seen.body.as_str()), (404, "mine"));
    }

    backend.set(Reply::status(503).body("host"));
    for seen in both.ask("GET", ("test", "/web"), &[JSON]) {
        assert_eq!((seen.status, seen.body.as_str()), (503, "host"));
    }
    backend.set(Reply::script(|_, wire| {
        wire.send(b"nonsense\r\n\r\n")?;
        Ok(Next::Close)
    }));
    for seen in both.ask("GET", ("test", "/web"), &[]) {
        assert_eq!(seen.status, 502);
        assert_eq!(seen.body, html(502, "the host sent no valid response"));
    }
    backend.set(Reply::Hang);
    for seen in both.ask("GET", ("test", "/web"), &[]) {
        assert_eq!(seen.status, 504);
        assert_eq!(seen.body, html(504, "the host did not respond in time"));
    }
    backend.set(Reply::ok());

    let large = Client::connect(both.plain.address()).post("/web", &[b'x'; 100]);
    assert_eq!((large.status, large.text()), (413, "at most 10".to_owned()));
    let large = both.http2.post("/web", &[b'x'; 100]).expect("a response");
    assert_eq!((large.status, large.body), (413, b"at most 10".to_vec()));

    let mut limited = None;
    wait_until(SOON, "the rate is exceeded", || {
        let seen = both.ask("GET", ("test", "/limited"), &[ID]);
        let is_limited = seen.iter().all(|seen| seen.status == 429);
        limited = Some(seen);
        is_limited
    });
    for seen in limited.expect("responses") {
        assert_eq!(seen.body, "slow down, from-a-client");
        assert_eq!(seen.field("x-status"), "of the route");
        assert!(!seen.field("retry-after").is_empty(), "{seen:?}");
    }
}

#[test]
fn without_pages_json_goes_to_those_who_ask_for_it() {
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend])
        .top("routes: [{ path: /web, pool: web }]")
        .top("access_log: { path: access.log, format: json }");
    let mut both = BothProtocols::start(&setup);
    for seen in both.ask("GET", ("test", "/"), &[BROWSER]) {
        assert_eq!(seen.body, "404 no route for this host and path\n");
        assert_eq!(seen.field("content-type"), "text/plain");
    }
    let seen = both.ask("GET", ("test", "/json"), &[JSON]);
    for (seen, ballast) in seen.iter().zip([&both.plain, &both.over_tls]) {
        let error: serde_json::Value = serde_json::from_str(&seen.body).expect("JSON");
        assert_eq!(error["status"], 404);
        let length = seen.body.len().to_string();
        assert_eq!(seen.field("content-length"), length);
        let line = wait_for(SOON, "the line of the access log", || {
            let log = std::fs::read_to_string(ballast.path("access.log")).ok()?;
            let line = log.lines().find(|line| line.contains("/json"))?;
            serde_json::from_str::<serde_json::Value>(line).ok()
        });
        assert_eq!(line["request_id"], error["request_id"]);
        assert_eq!(line["request_id"].as_str().map(str::len), Some(32));
        assert_eq!(line["sent"].to_string(), length);
    }
}

#[test]
fn a_reload_reads_the_files_of_pages_again() {
    let backend = Backend::start_new("a");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("404.html");
    std::fs::write(&file, "<p>one {path}").expect("written");
    let setup = Setup::of(&[&backend])
        .top("routes: [{ path: /web, pool: web }]")
        .top(&format!(
            "errors: {{ 404: {{ file: {} }} }}",
            file.display()
        ));
    let ballast = setup.start();
    let page = || get(ballast.address(), "/x").text();
    assert_eq!(page(), "<p>one /x");
    std::fs::write(&file, "<p>two {path}").expect("written");
    let line = ballast.reload_by_sighup(&setup.yaml());
    assert!(line.contains("reloaded in place: errors"), "{line}");
    assert_eq!(page(), "<p>two /x");
    std::fs::write(&file, "<p>{pathh}").expect("written");
    let line = ballast.reload_by_sighup(&setup.yaml());
    assert!(line.contains("`{pathh}` is not a variable"), "{line}");
    assert_eq!(page(), "<p>two /x");
}
