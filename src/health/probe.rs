//! One check of one host, with a total time limit.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Uri, header};
use nix::errno::Errno;
use pingora::connectors::http::Connector as HttpConnector;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::RequestHeader;
use pingora::lb::Backend;
use pingora::lb::health_check::HealthCheck;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};

use super::grpc_check::{GrpcHealthCheck, NOT_SERVING};
use super::http_check::{HttpHealthCheck, WRONG_STATUS};
use super::tcp_check::TcpHealthCheck;
use crate::config::{self, TlsVersion};
use crate::host_tls::{HostTls, LOW_TLS_VERSION};
use crate::pool::{Member, Pool, exhausted_resource};
use crate::resource_limits;

/// How to check a host.
#[derive(Clone)]
pub(super) struct HealthProbe {
    check: Arc<dyn HealthCheck + Send + Sync>,
    timeout: Duration,
}

impl fmt::Debug for HealthProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthProbe")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl HealthProbe {
    #[cfg(test)]
    pub(super) fn of(check: Arc<dyn HealthCheck + Send + Sync>, timeout: Duration) -> Self {
        HealthProbe { check, timeout }
    }

    /// A probe for each host, in the order of the pool. Hosts share a probe if it does not depend on the host.
    pub(super) fn for_pool(pool: &Pool, check: &config::HealthCheck) -> Vec<HealthProbe> {
        let probe = |member: &Member| HealthProbe {
            check: match &check.probe {
                config::Probe::Tcp => tcp(member),
                config::Probe::Http {
                    method,
                    path,
                    host,
                    expect,
                } => {
                    let path = path.as_str();
                    http(member, method, path, host.as_deref(), expect)
                }
                config::Probe::Grpc { service, host } => {
                    let authority = host.as_deref().unwrap_or(member.authority());
                    let connector = HttpConnector::new(Some(connector_options(member)));
                    let check =
                        GrpcHealthCheck::new(peer_of(member), connector, authority, service);
                    Arc::new(check.expect("the configuration takes only valid authorities"))
                }
            },
            timeout: check.timeout,
        };
        let uses_host_name = matches!(
            &check.probe,
            config::Probe::Http { host: None, .. } | config::Probe::Grpc { host: None, .. }
        );
        let mut probes: Vec<HealthProbe> = Vec::with_capacity(pool.members().len());
        for (position, member) in pool.members().iter().enumerate() {
            let is_unix = |member: &Member| member.peer()._address.as_inet().is_none();
            let same_probe = |other: &Member| {
                !uses_host_name
                    && other.peer().sni == member.peer().sni
                    && is_unix(other) == is_unix(member)
            };
            let shared = pool.members()[..position].iter().position(same_probe);
            probes.push(match shared {
                Some(other) => probes[other].clone(),
                None => probe(member),
            });
        }
        probes
    }

    /// Checks the host once.
    pub(super) async fn run(&self, address: &SocketAddr) -> Result<(), CheckFailure> {
        let host = Backend {
            addr: address.clone(),
            weight: 1,
            ext: Default::default(),
        };
        match tokio::time::timeout(self.timeout, self.check.check(&host)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(match exhausted_resource(&error) {
                Some(resource) => CheckFailure::Resources(resource),
                None => reason(&error)
                    .map_or(CheckFailure::TimedOut(self.timeout), CheckFailure::Failed),
            }),
            Err(_) => Err(CheckFailure::TimedOut(self.timeout)),
        }
    }
}

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CheckFailure {
    /// The check exceeded its timeout.
    TimedOut(Duration),
    /// The host refused or closed the connection or sent a wrong response; the reason as text.
    Failed(String),
    /// This process lacked a resource for the check.
    Resources(Errno),
}

impl fmt::Display for CheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckFailure::TimedOut(timeout) => write!(f, "timed out after {timeout:?}"),
            CheckFailure::Failed(reason) => f.write_str(reason),
            CheckFailure::Resources(resource) => {
                write!(f, "not tried: {}", resource_limits::advice(*resource))
            }
        }
    }
}

fn tcp(member: &Member) -> Arc<dyn HealthCheck + Send + Sync> {
    let connector = TransportConnector::new(Some(connector_options(member)));
    Arc::new(TcpHealthCheck::new(peer_of(member), connector))
}

fn http(
    member: &Member,
    method: &http::Method,
    path: &str,
    host: Option<&str>,
    expect: &[(u16, u16)],
) -> Arc<dyn HealthCheck + Send + Sync> {
    let host = host.unwrap_or(member.authority());
    let connector = HttpConnector::new(Some(connector_options(member)));
    let versions = &member.peer().options.alpn;
    let request = match versions.get_min_http_version() {
        2 => http2_request(method.clone(), member.peer().is_tls(), (host, path)),
        _ => RequestHeader::build(method.clone(), path.as_bytes(), None).and_then(|mut request| {
            request.insert_header(header::HOST, host)?;
            if versions.get_max_http_version() == 1 {
                request.insert_header(header::CONNECTION, "close")?;
            }
            Ok(request)
        }),
    };
    let request = request
        .and_then(|mut request| {
            request.insert_header(header::USER_AGENT, "ballast health check")?;
            Ok(request)
        })
        .expect("the configuration takes only what can stand in a request");
    Arc::new(HttpHealthCheck::new(
        peer_of(member),
        connector,
        request,
        expect,
    ))
}

/// How checks connect to the host, and the lowest version of TLS that they accept.
fn peer_of(member: &Member) -> (&HttpPeer, TlsVersion) {
    let min_version = member.tls().map_or(TlsVersion::Tls12, HostTls::min_version);
    (member.peer(), min_version)
}

/// A request over HTTP/2, of which Pingora would otherwise say that its scheme is https.
pub(super) fn http2_request(
    method: http::Method,
    tls: bool,
    (authority, path): (&str, &str),
) -> Result<RequestHeader> {
    let scheme = if tls { "https" } else { "http" };
    let uri = format!("{scheme}://{authority}{path}").parse::<Uri>();
    let mut request = RequestHeader::build(method, path.as_bytes(), None)?;
    request.set_uri(uri.or_err(ErrorType::InvalidHTTPHeader, "the address of a check")?);
    Ok(request)
}

/// Each connector holds a copy of the system's certificate authorities, 400 KiB, unless it is configured otherwise.
fn connector_options(member: &Member) -> ConnectorOptions {
    let mut options = ConnectorOptions::new(1);
    if !member.peer().is_tls() || member.peer().options.ca.is_some() {
        // Without TLS no authority is needed, and a pool's own authorities come with the peer.
        options.ca_file = Some("/dev/null".to_owned());
    }
    options
}

/// The reason of a failure as text; `None` for a timeout.
fn reason(error: &Error) -> Option<String> {
    let context = error
        .context
        .as_ref()
        .map_or("", |context| context.as_str());
    Some(match error.etype() {
        ErrorType::ConnectTimedout
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::ReadTimedout
        | ErrorType::WriteTimedout => return None,
        ErrorType::ConnectRefused => "connection refused".to_owned(),
        ErrorType::ConnectNoRoute => "no route to the host".to_owned(),
        ErrorType::ConnectionClosed => "the host closed the connection".to_owned(),
        ErrorType::InvalidHTTPHeader => "the response is not HTTP".to_owned(),
        etype if [WRONG_STATUS, NOT_SERVING, LOW_TLS_VERSION].contains(etype) => context.to_owned(),
        etype => {
            let root = error.root_cause();
            format!("{}: {root}", etype.as_str())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_a_reason_and_timeouts_do_not() {
        let refused = Error::new_up(ErrorType::ConnectRefused);
        assert_eq!(reason(&refused).unwrap(), "connection refused");
        assert_eq!(reason(&Error::new_up(ErrorType::ReadTimedout)), None);
    }
}
