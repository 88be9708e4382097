//! The probes of whoever runs the process: is it alive, does it want requests.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use super::answer::text;
use super::readiness::Readiness;

/// The application of the admin listener, `/healthz` and `/ready`. It reads, and changes nothing.
#[derive(Debug)]
pub struct Probes {
    readiness: Arc<Readiness>,
}

impl Probes {
    /// Probes that tell `readiness`.
    pub fn new(readiness: Arc<Readiness>) -> Self {
        Probes { readiness }
    }
}

#[async_trait]
impl ServeHttp for Probes {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        let (status, line) = match request.uri.path() {
            "/healthz" | "/ready" if !reads => {
                (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD")
            }
            "/healthz" => (StatusCode::OK, "alive"),
            "/ready" if self.readiness.is_ready() => (StatusCode::OK, "ready"),
            "/ready" => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
            _ => (StatusCode::NOT_FOUND, "there are /healthz and /ready"),
        };
        text(session, status, line)
    }
}
