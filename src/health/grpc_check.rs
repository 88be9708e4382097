//! A check by the health service of gRPC, `grpc.health.v1`.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::lb::Backend;
use pingora::lb::health_check::HealthCheck;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use prost::Message;

use super::http_check::check_session;
use crate::config::TlsVersion;
use crate::grpc_status::GrpcStatus;

/// The error type for a host that is not serving; the error's context says what it answered.
pub(super) const NOT_SERVING: ErrorType = ErrorType::new("NotServing");

/// Longer than any response of the service, in bytes.
const MAX_RESPONSE: usize = 1_024;

/// Length of what precedes a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A request of the service.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    /// The service that is asked about; empty: the whole server.
    #[prost(string, tag = "1")]
    service: String,
}

/// A response of the service.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

/// Asks a host for the state of a service.
pub(super) struct GrpcHealthCheck {
    peer_template: HttpPeer,
    min_tls_version: TlsVersion,
    connector: Connector,
    request: RequestHeader,
    message: Bytes,
}

impl GrpcHealthCheck {
    /// `authority` is what the host is asked as. Each check uses a connection of its own.
    ///
    /// # Errors
    /// If `authority` cannot stand in a request.
    pub(super) fn new(
        (peer, min_tls_version): (&HttpPeer, TlsVersion),
        connector: Connector,
        authority: &str,
        service: &str,
    ) -> Result<Self> {
        let mut request = super::probe::http2_request(
            http::Method::POST,
            peer.is_tls(),
            (authority, "/grpc.health.v1.Health/Check"),
        )?;
        request.insert_header(header::CONTENT_TYPE, "application/grpc")?;
        request.insert_header(header::TE, "trailers")?;
        let asked = HealthCheckRequest {
            service: service.to_owned(),
        };
        let message = asked.encode_to_vec();
        let mut framed = BytesMut::from(&[0][..]);
        framed.extend((message.len() as u32).to_be_bytes());
        framed.extend(message);
        let mut peer_template = peer.clone();
        peer_template.options.max_h2_streams = 1;
        Ok(GrpcHealthCheck {
            peer_template,
            min_tls_version,
            connector,
            request,
            message: framed.freeze(),
        })
    }

    async fn ask(&self, session: &mut Http2Session, limit: Option<Duration>) -> Result<()> {
        session.read_timeout = limit;
        session.write_timeout = limit;
        session.write_request_header(Box::new(self.request.clone()), false)?;
        session
            .write_request_body(self.message.clone(), true)
            .await?;
        session.read_response_header().await?;
        let Some(head) = session.response_header() else {
            return not_serving("no response".to_owned());
        };
        if head.status != 200 {
            return not_serving(format!("HTTP status {}", head.status.as_u16()));
        }
        check_status(&head.headers)?;
        let mut body = BytesMut::new();
        while let Some(part) = session.read_response_body().await? {
            body.extend_from_slice(&part);
            if body.len() > MAX_RESPONSE {
                return not_serving("the response is too long".to_owned());
            }
        }
        if let Some(trailers) = session.read_trailers().await? {
            check_status(&trailers)?;
        }
        serving_status(&body)
    }
}

/// The error of a status other than OK.
fn check_status(fields: &HeaderMap) -> Result<()> {
    match GrpcStatus::of(fields) {
        None | Some(GrpcStatus::OK) => Ok(()),
        Some(status) => not_serving(format!("gRPC status {status}")),
    }
}

fn serving_status(body: &[u8]) -> Result<()> {
    let message = match body {
        [0, _, _, _, _, message @ ..] => message,
        _ => return not_serving(format!("{} bytes that are no message", body.len())),
    };
    let length = body[1..PREFIX]
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    match HealthCheckResponse::decode(message) {
        Ok(response) if length == message.len() => match response.status() {
            ServingStatus::Serving => Ok(()),
            ServingStatus::NotServing => not_serving("NOT_SERVING".to_owned()),
            ServingStatus::ServiceUnknown => not_serving("SERVICE_UNKNOWN".to_owned()),
            ServingStatus::Unknown => not_serving("UNKNOWN".to_owned()),
        },
        _ => not_serving("a message of another type".to_owned()),
    }
}

fn not_serving(why: String) -> Result<()> {
    Error::e_explain(NOT_SERVING, why)
}

#[async_trait]
impl HealthCheck for GrpcHealthCheck {
    async fn check(&self, target: &Backend) -> Result<()> {
        let mut peer = self.peer_template.clone();
        peer._address = target.addr.clone();
        let limit = peer.options.read_timeout;
        match self.connector.get_http_session(&peer).await? {
            (HttpSession::H2(mut session), _) => {
                check_session(self.min_tls_version, session.digest())?;
                self.ask(&mut session, limit).await
            }
            _ => not_serving("the host has not chosen HTTP/2".to_owned()),
        }
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_serves_if_it_says_so() {
        let answer = |status: i32| {
            let message = HealthCheckResponse { status }.encode_to_vec();
            [&[0, 0, 0, 0, message.len() as u8][..], &message].concat()
        };
        assert!(serving_status(&answer(1)).is_ok());
        for (body, expected) in [
            (answer(0), "UNKNOWN"),
            (answer(2), "NOT_SERVING"),
            (answer(3), "SERVICE_UNKNOWN"),
            (answer(9), "UNKNOWN"),
            (Vec::new(), "0 bytes that are no message"),
            (vec![1, 0, 0, 0, 0], "5 bytes that are no message"),
            (vec![0, 0, 0, 0, 9, 8, 1], "a message of another type"),
        ] {
            let error = serving_status(&body).expect_err("not serving");
            let told = error.context.as_ref().map(|context| context.as_str());
            assert_eq!(told, Some(expected));
        }
    }
}
