use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use pingora::http::RequestHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::Config;
use crate::pool::{HostRegistry, RequestCounts};
use crate::proxy::{ActiveConfig, failure};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server with one script for each of its connections: pairs of a request's end and the bytes that it gets then. After
/// the last one the connection is closed, or left open if `hangs`.
async fn server(scripts: Vec<Vec<(&'static str, &'static str)>>, hangs: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        for script in scripts {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            for (end, response) in script {
                read_until(&mut socket, end.as_bytes()).await;
                let written = socket.write_all(response.as_bytes()).await;
                written.expect("written");
            }
            if hangs {
                std::future::pending::<()>().await;
            }
        }
    });
    address
}

async fn read_until(socket: &mut TcpStream, end: &[u8]) {
    let mut received = Vec::new();
    while !received.ends_with(end) {
        let count = socket.read_buf(&mut received).await.expect("readable");
        assert!(count > 0, "{}", received.escape_ascii());
    }
}

fn active(address: SocketAddr) -> ActiveConfig {
    let file = format!(
        "listeners: [\"127.0.0.1:8080\"]\npools: {{ web: {{ hosts: [\"{address}\"], health_check: none }} }}"
    );
    let config = Config::parse(&file, Path::new("ballast.yaml")).expect("a configuration");
    let active = ActiveConfig::new(&config, &mut HostRegistry::new()).expect("a configuration");
    active.pools[0].begin();
    active
}

fn request(method: &str, body: &'static str) -> Subrequest {
    let mut head = RequestHeader::build(method, b"/", None).expect("a head");
    head.insert_header("Host", "test").expect("a field");
    Subrequest::new(head, Bytes::from_static(body.as_bytes())).expect("a request")
}

/// Sends requests to the host of a pool, one after the other, and returns what comes of each: status and body, or the
/// status that a client would get.
async fn ask(
    active: &ActiveConfig,
    client: &SubrequestClient,
    request: &Subrequest,
    (total, body): (Duration, BodyLimit),
) -> Result<(u16, Bytes), Option<u16>> {
    let lease = lease_for_subrequest(&active.pools[0], (&request.head).into(), None, &[]);
    let target = SubrequestTarget::Host(lease.expect("a usable host"), None);
    let limits = SubrequestLimits {
        total,
        body,
        head: &active.limits,
    };
    match client.send(target, request, limits).await {
        Ok(response) => Ok((response.head.status.as_u16(), response.body)),
        Err(error) => Err(failure::status_for(&error)),
    }
}

fn failures(active: &ActiveConfig) -> RequestCounts {
    active.pools[0].members()[0].counters().counts()
}

const KEEP: (Duration, BodyLimit) = (PATIENCE, BodyLimit::Keep(10));
const DISCARD: (Duration, BodyLimit) = (PATIENCE, BodyLimit::Discard(10));
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn connections_are_kept_and_interim_responses_skipped() {
    let interim = "HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let address = server(vec![vec![("body", interim), ("\r\n\r\n", OK)]], false).await;
    let (active, client) = (active(address), SubrequestClient::default());
    let ok = Ok((200, Bytes::from_static(b"ok")));
    let posted = ask(&active, &client, &request("POST", "body"), KEEP).await;
    assert_eq!(posted, ok);
    assert_eq!(ask(&active, &client, &request("GET", ""), KEEP).await, ok);
    assert_eq!(
        (failures(&active).requests, failures(&active).errors),
        (2, 0)
    );
}

#[tokio::test]
async fn a_stale_connection_costs_only_requests_that_must_not_be_repeated() {
    let stale = vec![("\r\n\r\n", OK), ("\r\n\r\n", "")];
    let scripts = vec![stale.clone(), stale.clone(), vec![("\r\n\r\n", OK)]];
    let address = server(scripts, false).await;
    let (active, client) = (active(address), SubrequestClient::default());
    let get = request("GET", "");
    for _ in 0..2 {
        assert!(ask(&active, &client, &get, KEEP).await.is_ok());
    }
    let once = request("GET", "").at_most_once();
    assert_eq!(ask(&active, &client, &once, KEEP).await, Err(Some(502)));
    assert!(ask(&active, &client, &get, KEEP).await.is_ok());
    assert_eq!(failures(&active).errors, 0);
}

#[tokio::test]
async fn responses_have_limits() {
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n12345678901";
    let script = || vec![("\r\n\r\n", long)];
    let address = server(vec![script(), script()], false).await;
    let (active, client) = (active(address), SubrequestClient::default());
    let get = request("GET", "");
    assert_eq!(ask(&active, &client, &get, KEEP).await, Err(Some(502)));
    let discarded = ask(&active, &client, &get, DISCARD).await;
    assert_eq!(discarded, Ok((200, Bytes::new())));
    assert_eq!(failures(&active).errors, 0);
}

#[tokio::test]
async fn failures_count_against_the_host() {
    for (response, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 502),
        ("HTTP/1.1 101 Fine\r\nUpgrade: tcp\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", 502),
        ("not HTTP\r\n\r\n", 502),
        ("", 502),
    ] {
        let address = server(vec![vec![("\r\n\r\n", response)]], false).await;
        let (active, client) = (active(address), SubrequestClient::default());
        let result = ask(&active, &client, &request("GET", ""), KEEP).await;
        assert_eq!(result, Err(Some(expected)), "{response}");
        assert_eq!(failures(&active).errors, 1, "{response}");
    }
    let address = server(vec![vec![("\r\n\r\n", "HTTP/1.1 200")]], true).await;
    let (active, client) = (active(address), SubrequestClient::default());
    let short = (Duration::from_millis(50), BodyLimit::Keep(10));
    let result = ask(&active, &client, &request("GET", ""), short).await;
    assert_eq!(result, Err(Some(504)));
    assert_eq!(failures(&active).errors, 1);
    assert_eq!(active.pools[0].members()[0].host().in_flight(), 0);
}

#[tokio::test]
async fn a_url_names_the_server() {
    let address = server(vec![vec![("\r\n\r\n", OK)]], false).await;
    let active = active(address);
    let endpoint = Endpoint {
        tls: false,
        host: "localhost".to_owned(),
        port: address.port(),
        path: "/".to_owned(),
    };
    let limits = SubrequestLimits {
        total: PATIENCE,
        body: BodyLimit::Keep(10),
        head: &active.limits,
    };
    let client = SubrequestClient::default();
    let get = request("GET", "");
    let response = client
        .send(SubrequestTarget::Url(&endpoint), &get, limits)
        .await;
    assert_eq!(response.expect("a response").body, "ok");
}

#[test]
fn the_framing_fits_the_body() {
    let framing = |fields: &[(&'static str, &str)], body: &'static str| {
        let mut head = RequestHeader::build("POST", b"/", None).expect("a head");
        for (name, value) in fields {
            head.append_header(*name, *value).expect("a field");
        }
        let request = Subrequest::new(head, Bytes::from_static(body.as_bytes()));
        let head = request.expect("a request").head;
        let fields = head.headers.iter();
        let fields =
            fields.map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")));
        Vec::from_iter(fields)
    };
    assert_eq!(framing(&[], ""), [""; 0]);
    assert_eq!(framing(&[], "body"), ["content-length: 4"]);
    assert_eq!(
        framing(&[("Content-Length", "9")], "body"),
        ["content-length: 4"]
    );
    assert_eq!(
        framing(&[("Content-Length", "0")], ""),
        ["content-length: 0"]
    );
    let chunked = [("Transfer-Encoding", "chunked"), ("Content-Length", "4")];
    assert_eq!(framing(&chunked, "body"), ["transfer-encoding: chunked"]);
}
