//! URLs of servers that the proxy itself sends requests to.

use std::fmt;

use http::uri::{Scheme, Uri};

use super::hints::quote;

/// The URL of a server, http or https.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the scheme is https.
    pub tls: bool,
    /// Its name, or its address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The path of requests to it, with the query if there is one.
    pub path: String,
}

impl Endpoint {
    /// Host and port, as they stand in a Host field.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Reads a URL such as `example`. `check` says what else is wrong with it.
pub(super) fn parse_url(
    text: &str,
    example: &str,
    check: impl FnOnce(&Uri) -> Result<(), String>,
) -> Result<Endpoint, String> {
    let wrong = || format!("{} is not a URL such as `{example}`", quote(text));
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(wrong());
    };
    let tls = *scheme == Scheme::HTTPS;
    if !(tls || *scheme == Scheme::HTTP) {
        return Err(format!("{} is not http:// or https://", quote(text)));
    }
    check(&uri)?;
    let port = match (authority.port(), tls) {
        (Some(port), _) if port.as_u16() > 0 => port.as_u16(),
        // What follows the name is no port of 16 bits.
        (None, _) if authority.as_str() != authority.host() => return Err(wrong()),
        (None, true) => 443,
        (None, false) => 80,
        _ => return Err(wrong()),
    };
    let host = authority.host().trim_matches(['[', ']']);
    if host.is_empty() {
        return Err(wrong());
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(Endpoint {
        tls,
        host: host.to_ascii_lowercase(),
        port,
        path: path.to_owned(),
    })
}

/// Whether a URL has a user before its host.
pub(super) fn has_user(uri: &Uri) -> bool {
    let authority = uri.authority();
    authority.is_some_and(|authority| authority.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_has_brackets() {
        let endpoint = Endpoint {
            tls: true,
            host: "::1".to_owned(),
            port: 4318,
            path: "/v1/traces".to_owned(),
        };
        assert_eq!(endpoint.to_string(), "https://[::1]:4318/v1/traces");
    }
}
