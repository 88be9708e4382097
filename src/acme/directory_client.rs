//! The HTTP client of ACME: each request on a connection of its own, within one timeout.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use pingora::http::RequestHeader;
use pingora::protocols::tls::CaType;

use crate::config::{Acme, Endpoint};
use crate::pool::ca_type;
use crate::proxy::subrequest::{
    BodyLimit, SERVICE_RESPONSE_HEAD, Subrequest, SubrequestClient, SubrequestLimits,
    SubrequestTarget,
};

/// For one request, from resolving the name to the end of the response.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest response that is read. A chain of certificates has some kilobytes.
const MAX_RESPONSE: usize = 256 << 10;

const AGENT: &str = concat!("ballast/", env!("CARGO_PKG_VERSION"));

type BoxedError = Box<dyn StdError + Send + Sync>;

/// Sends requests to one authority. Clones share the state.
#[derive(Debug, Clone)]
pub(super) struct DirectoryClient {
    client: Arc<SubrequestClient>,
    ca: Option<Arc<CaType>>,
    /// The time that the authority asked for in its last error.
    retry_after: Arc<Mutex<Option<Duration>>>,
}

impl DirectoryClient {
    pub(super) fn new(acme: &Acme) -> Self {
        DirectoryClient {
            client: Arc::default(),
            ca: acme.ca.as_ref().map(ca_type),
            retry_after: Arc::default(),
        }
    }

    /// The time that the authority has asked for in an error since the last call.
    pub(super) fn take_retry_after(&self) -> Option<Duration> {
        let mut asked = self
            .retry_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        asked.take()
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, BoxedError> {
        let (parts, body) = request.into_parts();
        let endpoint = endpoint(&parts.uri)?;
        let body = body.collect().await?.to_bytes();
        let mut head = RequestHeader::build(parts.method, endpoint.path.as_bytes(), None)?;
        for (name, value) in &parts.headers {
            head.append_header(name.clone(), value.clone())?;
        }
        head.insert_header(HOST, endpoint.authority())?;
        head.insert_header(USER_AGENT, AGENT)?;
        // A kept connection may be closed at any time, and a POST is not repeated.
        head.insert_header(CONNECTION, "close")?;
        let target = match &self.ca {
            Some(ca) => SubrequestTarget::UrlTrusting(&endpoint, ca),
            None => SubrequestTarget::Url(&endpoint),
        };
        let limits = SubrequestLimits {
            total: TIMEOUT,
            body: BodyLimit::Keep(MAX_RESPONSE),
            head: &SERVICE_RESPONSE_HEAD,
        };
        let request = Subrequest::new(head, body)?;
        let sent = self.client.send(target, &request, limits).await;
        let sent = sent.map_err(|error| error.to_string())?;
        let status = sent.head.status;
        if !status.is_success() {
            let asked = sent.head.headers.get(RETRY_AFTER).and_then(seconds);
            let mut retry_after = self
                .retry_after
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *retry_after = asked;
        }
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = status;
        parts.headers.clone_from(&sent.head.headers);
        Ok(BytesResponse {
            parts,
            body: Box::new(sent.body),
        })
    }
}

impl HttpClient for DirectoryClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let sent = self.clone().send(request);
        Box::pin(async move { sent.await.map_err(Error::Other) })
    }
}

/// The server of a URL that the authority has named.
fn endpoint(uri: &Uri) -> Result<Endpoint, BoxedError> {
    let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(format!("the authority names `{uri}`, which is not https://").into());
    };
    let path = uri.path_and_query();
    Ok(Endpoint {
        tls: true,
        host: host.trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(443),
        path: path.map_or("/", |path| path.as_str()).to_owned(),
    })
}

/// The time of a Retry-After field: seconds, or a date.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    SystemTime::from(date)
        .duration_since(SystemTime::now())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_names_servers_of_https_only() {
        let named = |text: &'static str| {
            let endpoint = endpoint(&Uri::from_static(text)).ok()?;
            Some(endpoint.to_string())
        };
        assert_eq!(
            named("https://ca.test/a?b").unwrap(),
            "https://ca.test:443/a?b"
        );
        assert_eq!(
            named("https://[::1]:14000").unwrap(),
            "https://[::1]:14000/"
        );
        assert_eq!(named("http://ca.test/"), None);
        assert_eq!(named("/path"), None);
    }

    #[test]
    fn retry_after_has_two_forms() {
        let of = |text: &'static str| seconds(&HeaderValue::from_static(text));
        assert_eq!(of(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert!(of("Fri, 31 Dec 2100 23:59:59 GMT").is_some());
        assert_eq!(of("soon"), None);
    }
}
