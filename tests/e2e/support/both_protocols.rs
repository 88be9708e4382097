//! The same configuration and the same requests over HTTP/1.1 and HTTP/2.

use http::HeaderMap;

use super::ballast::Ballast;
use super::client::Client;
use super::http2::{Http2, Secure, request};
use super::setup::Setup;

/// Two processes with the same file: one for HTTP/1.1, one for HTTP/2.
pub(crate) struct BothProtocols {
    pub(crate) plain: Ballast,
    pub(crate) over_tls: Ballast,
    pub(crate) http2: Http2,
}

/// A response, whatever the protocol.
#[derive(Debug)]
pub(crate) struct AnyResponse {
    /// The scheme of the request.
    pub(crate) scheme: &'static str,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The body as it came.
    pub(crate) bytes: Vec<u8>,
    /// The same as text.
    pub(crate) body: String,
}

impl AnyResponse {
    /// The value of the first field with this name; empty if the response has no such field.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    /// The values of all fields with this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().expect("text")).collect()
    }
}

impl BothProtocols {
    #[track_caller]
    pub(crate) fn start(setup: &Setup) -> Self {
        let secure = Secure::new();
        let over_tls = setup.clone().top(&secure.listeners()).start();
        BothProtocols {
            plain: setup.start(),
            http2: secure.connect(over_tls.address()),
            over_tls,
        }
    }

    /// The responses to the same request: over HTTP/1.1, and over HTTP/2.
    #[track_caller]
    pub(crate) fn ask(
        &mut self,
        method: &str,
        (host, path): (&str, &str),
        fields: &[(&str, &str)],
    ) -> [AnyResponse; 2] {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        let mut over_http2 = request(method, path);
        *over_http2.uri_mut() = format!("https://{host}{path}").parse().expect("a URI");
        for &(name, value) in fields {
            head += &format!("{name}: {value}\r\n");
            let name = http::HeaderName::try_from(name).expect("a name");
            let value = value.parse().expect("a value");
            over_http2.headers_mut().append(name, value);
        }
        let mut client = Client::connect(self.plain.address());
        client.send(head + "\r\n").expect("sent");
        let response = client.read_response(method == "HEAD").expect("a response");
        let mut headers = HeaderMap::new();
        for (name, value) in &response.head.fields {
            let name = http::HeaderName::try_from(name.as_str()).expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        let http1 = AnyResponse {
            scheme: "http",
            status: response.status,
            headers,
            body: response.text(),
            bytes: response.body,
        };
        let response = self.http2.ask(over_http2).expect("a whole response");
        let http2 = AnyResponse {
            scheme: "https",
            status: response.status,
            headers: response.fields,
            body: String::from_utf8_lossy(&response.body).into_owned(),
            bytes: response.body,
        };
        [http1, http2]
    }
}
