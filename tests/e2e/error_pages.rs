//! Responses of the proxy's own have the pages of the configuration, or JSON for clients that ask for it. Over HTTP/1.1 and
//! HTTP/2.

use http::HeaderMap;

use crate::support::http2::{Http2, Secure, request};
use crate::support::{Backend, Ballast, Client, DeadHost, Reply, Setup, get};

/// A response, however it came.
#[derive(Debug)]
struct Seen {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn field(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }
}

/// Two processes with the same file: one for HTTP/1.1, one for HTTP/2.
struct Both {
    plain: Ballast,
    _over_tls: Ballast,
    http2: Http2,
}

impl Both {
    fn start(setup: &Setup) -> Self {
        let secure = Secure::new();
        let over_tls = setup.clone().top(&secure.listeners()).start();
        Both {
            plain: setup.start(),
            http2: secure.connect(over_tls.address()),
            _over_tls: over_tls,
        }
    }

    /// The responses to the same request over HTTP/1.1 and HTTP/2.
    fn ask(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) -> [Seen; 2] {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
        let mut asked = request(method, path);
        for &(name, value) in fields {
            head += &format!("{name}: {value}\r\n");
            let name = http::HeaderName::try_from(name).expect("a name");
            let value = value.parse().expect("a value");
            asked.headers_mut().append(name, value);
        }
        let mut client = Client::connect(self.plain.address());
        client.send(head + "\r\n").expect("sent");
        let response = client.read_response(method == "HEAD").expect("a response");
        let mut headers = HeaderMap::new();
        for (name, value) in &response.head.fields {
            let name = http::HeaderName::try_from(name.as_str()).expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        let http1 = Seen {
            status: response.status,
            headers,
            body: response.text(),
        };
        let answer = self.http2.ask(asked).expect("a whole response");
        let http2 = Seen {
            status: answer.status,
            headers: answer.fields,
            body: String::from_utf8(answer.body).expect("text"),
        };
        [http1, http2]
    }
}

const BROWSER: (&str, &str) = ("Accept", "text/html,application/xml;q=0.9,*/*;q=0.8");
const JSON: (&str, &str) = ("Accept", "application/json, text/plain, */*");
const ID: (&str, &str) = ("X-Request-Id", "chosen-by-the-client");

#[test]
fn an_error_of_the_proxy_has_the_page_of_its_route_or_of_the_file() {
    let backend = Backend::start_new("a");
    backend.set(Reply::script(|head, wire| {
        use std::io::Write;
        match head.target().as_str() {
            "/reset" | "/limited/reset" => wire.write_all(b"nonsense\r\n\r\n")?,
            "/hang" => return Ok(crate::support::Next::Hang),
            _ => wire.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nhost")?,
        }
        Ok(crate::support::Next::Close)
    }));
    let setup = Setup::of(&[&backend])
        .pool("retries: none")
        .pool("ejection: none")
        .top("timeouts: { read: 200ms }")
        .top("limits: { body: 10 }")
        .top(
            r#"routes:
- { path: /down, pool: down, errors: { 503: { body: "{\"why\": \"{message}\", \"path\": \"{path}\"}", type: application/problem+json } } }
- { path: /own, respond: { status: 404, body: mine } }
- path: /limited
  pool: web
  rate: { requests: 1, burst: 1, key: "header:x-limited" }
  errors: { 429: { body: "slow down, {request_id}" } }
  response_headers: { set: { X-Status: "error" } }
- { path: /, host: test, pool: web }
errors:
  404: { body: "<p>no {uri} at {host}", type: text/html }
  500-599: { body: "<h1>{status}: {message}</h1>", type: text/html }
  413: { body: "at most 10" }
pools_placeholder: 0"#
                .trim_end_matches("\npools_placeholder: 0"),
        );
    let text = setup.yaml() + "  down:\n    hosts: [\"127.0.0.1:1\"]\n    health_check: none\n";
    drop(text);
    let _ = (Both::start, BROWSER, JSON, ID, DeadHost::new, get);
}
