//! Whether a request fits the conditions of a route, and if not, why.

use std::fmt;
use std::net::Ipv6Addr;

use http::header;

use super::{NormalizedInput, RoutingInput, address};
use crate::config::{PathPattern, RequestConditions, ValuePattern, begins_with_segments};

/// The conditions of a route or of one of its exceptions. Most have no others than host and prefix, so that these are
/// compared first and lie together.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) host: HostPattern,
    /// What the path must begin with; empty for all other patterns.
    prefix: Box<[u8]>,
    /// `None`: there are no others.
    further: Option<Box<FurtherConditions>>,
}

#[derive(Debug)]
struct FurtherConditions {
    /// With its pattern of the path, even if that is a prefix.
    conditions: RequestConditions,
    exceptions: Vec<Conditions>,
}

/// The paths of a route, as far as a table can tell them apart.
#[derive(Debug, Clone, Copy)]
pub(super) enum PathKey<'a> {
    Prefix(&'a [u8]),
    Exact(&'a [u8]),
    Other,
}

/// The hosts of a route.
#[derive(Debug)]
pub(super) enum HostPattern {
    Any,
    /// An IPv6 literal.
    Address(Ipv6Addr),
    /// A name in lower case.
    Exact(Box<[u8]>),
    /// `.example.com` for `*.example.com`: the ending of matching names, in lower case.
    Subdomain(Box<[u8]>),
}

/// The first condition that a request does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// Its host.
    Host,
    /// Its path.
    Path,
    /// Its method.
    Method,
    /// A header field with this name.
    Header(&'a str),
    /// A parameter of the query with this name.
    Query(&'a str),
    /// A cookie with this name.
    Cookie(&'a str),
    /// The client's address.
    Client,
    /// It fits an exception.
    Not,
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Mismatch::Host => ("host", None),
            Mismatch::Path => ("path", None),
            Mismatch::Method => ("method", None),
            Mismatch::Header(name) => ("header", Some(name)),
            Mismatch::Query(name) => ("query", Some(name)),
            Mismatch::Cookie(name) => ("cookie", Some(name)),
            Mismatch::Client => ("client", None),
            Mismatch::Not => ("not", None),
        };
        f.write_str(kind)?;
        name.map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

impl Conditions {
    pub(super) fn new(conditions: &RequestConditions, exceptions: &[RequestConditions]) -> Self {
        let (prefix, is_prefix) = match &conditions.path {
            None => ("", true),
            Some(PathPattern::Prefix(prefix)) => (prefix.as_str(), true),
            Some(PathPattern::Exact(_) | PathPattern::Regex(_)) => ("", false),
        };
        let has_further = !is_prefix || conditions.has_further() || !exceptions.is_empty();
        let exceptions = exceptions.iter();
        let further = || FurtherConditions {
            conditions: conditions.clone(),
            exceptions: exceptions.map(|it| Conditions::new(it, &[])).collect(),
        };
        Conditions {
            host: HostPattern::new(conditions.host.as_deref()),
            prefix: prefix.as_bytes().into(),
            further: has_further.then(|| Box::new(further())),
        }
    }

    pub(super) fn path(&self) -> PathKey<'_> {
        let further = self.further.as_ref();
        match further.and_then(|further| further.conditions.path.as_ref()) {
            Some(PathPattern::Exact(path)) => PathKey::Exact(path.as_bytes()),
            _ if !self.prefix.is_empty() => PathKey::Prefix(&self.prefix),
            _ => PathKey::Other,
        }
    }

    /// Whether a request fits.
    pub(super) fn matches(&self, request: &NormalizedInput<'_>) -> bool {
        let further = self.further.as_deref();
        self.host.matches(request)
            && begins_with_segments(request.path, &self.prefix)
            && further.is_none_or(|further| further.mismatch(request).is_none())
    }

    /// Why a request does not fit.
    pub(super) fn mismatch<'a>(&'a self, request: &NormalizedInput<'_>) -> Option<Mismatch<'a>> {
        if !self.host.matches(request) {
            return Some(Mismatch::Host);
        }
        if !begins_with_segments(request.path, &self.prefix) {
            return Some(Mismatch::Path);
        }
        self.further.as_deref()?.mismatch(request)
    }
}

impl FurtherConditions {
    fn mismatch<'a>(&'a self, request: &NormalizedInput<'_>) -> Option<Mismatch<'a>> {
        let RequestConditions {
            host: _,
            path,
            methods,
            headers,
            query,
            cookies,
            client,
        } = &self.conditions;
        let input = &request.input;
        let is_path = path.as_ref().is_none_or(|path| path.matches(request.path));
        if !is_path {
            return Some(Mismatch::Path);
        }
        if !methods.is_empty() && !methods.contains(input.method) {
            return Some(Mismatch::Method);
        }
        let mut headers = headers.iter();
        let header = headers.find(|(name, pattern)| {
            let mut values = input.fields.get_all(&name.name);
            !values.any(|value| pattern.matches(value))
        });
        if let Some((name, _)) = header {
            return Some(Mismatch::Header(&name.written));
        }
        let mut query = query.iter();
        if let Some((name, _)) = query.find(|(name, pattern)| !has_parameter(input, name, pattern))
        {
            return Some(Mismatch::Query(name));
        }
        let mut cookies = cookies.iter();
        if let Some((name, _)) = cookies.find(|(name, pattern)| !has_cookie(input, name, pattern)) {
            return Some(Mismatch::Cookie(name));
        }
        let address = input.client.map(|client| client.to_canonical());
        let has_client =
            address.is_some_and(|address| client.iter().any(|network| network.contains(&address)));
        if !client.is_empty() && !has_client {
            return Some(Mismatch::Client);
        }
        let mut exceptions = self.exceptions.iter();
        let is_excepted = exceptions.any(|exception| exception.matches(request));
        is_excepted.then_some(Mismatch::Not)
    }
}

fn has_parameter(input: &RoutingInput<'_>, name: &str, pattern: &ValuePattern) -> bool {
    form_urlencoded::parse(input.query)
        .any(|(other, value)| other == name && pattern.matches(value.as_bytes()))
}

/// Quotes around a value do not belong to it.
fn has_cookie(input: &RoutingInput<'_>, name: &str, pattern: &ValuePattern) -> bool {
    let mut fields = input.fields.get_all(&header::COOKIE);
    fields.any(|field| {
        let mut pairs = field.split(|&byte| byte == b';');
        pairs.any(|pair| {
            let pair = pair.trim_ascii().strip_prefix(name.as_bytes());
            let value = pair.and_then(|pair| pair.strip_prefix(b"="));
            value.is_some_and(|value| {
                pattern.matches(match value {
                    [b'"', inner @ .., b'"'] => inner,
                    bare => bare,
                })
            })
        })
    })
}

impl HostPattern {
    fn new(host: Option<&str>) -> Self {
        let Some(host) = host else {
            return HostPattern::Any;
        };
        match (host.strip_prefix('*'), address(host.as_bytes())) {
            (Some(ending), _) => HostPattern::Subdomain(ending.as_bytes().into()),
            (None, Some(address)) => HostPattern::Address(address),
            (None, None) => HostPattern::Exact(host.as_bytes().into()),
        }
    }

    pub(super) fn matches(&self, request: &NormalizedInput<'_>) -> bool {
        let host = request.host;
        match self {
            HostPattern::Any => true,
            HostPattern::Address(expected) => request.address == Some(*expected),
            HostPattern::Exact(name) => host.eq_ignore_ascii_case(name),
            HostPattern::Subdomain(ending) => host
                .len()
                .checked_sub(ending.len())
                .is_some_and(|at| at > 0 && host[at..].eq_ignore_ascii_case(ending)),
        }
    }
}
