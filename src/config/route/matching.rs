//! Which requests a route matches.

use http::Method;
use ipnet::IpNet;
use serde_json::json;

use super::host_name::host;
use super::path_pattern::{PathPattern, path};
use crate::config::access::networks;
use crate::config::field_name::{FieldName, field_name};
use crate::config::hints::quote;
use crate::config::pattern::{ValuePattern, value_pattern};
use crate::config::scalars::is_token;
use crate::config::schema::{Kind, List, Scalar, Section, list, map_of, scalar, section, table};

/// Entries in each of the maps and lists.
const MAX_CONDITIONS: usize = 64;

section! {
    /// Which requests a route matches.
    pub struct RouteMatch: Eq, Hash, Default {
        /// What requests have to fit.
        conditions: RequestConditions { map_of::<RequestConditions>(), flat },
        /// Requests that the route does not match although they fit the keys above: a map with the same keys, or a list of
        /// such maps.
        not: Option<Vec<RequestConditions>> { exceptions(), optional "[]" },
    }
}

section! {
    /// What requests have to fit: all of these keys.
    pub struct RequestConditions: Eq, Hash, Default {
        /// The host name of the request, without port; `*.example.com` is any name below example.com.
        host: Option<String> { host(), optional "api.example.com" },
        /// What the path begins with, in whole segments: `/v1` matches /v1 and /v1/x, but not /v10. `= /v1` is this path
        /// alone, and `~ \.php$` a regular expression. See `paths`.
        path: Option<PathPattern> { path(), optional "/v1/" },
        /// The method: one of these. GET does not stand for HEAD.
        methods: Vec<Method> { methods(), default "[]" },
        /// Header fields, all of them: the whole value, `~` and a regular expression, or `*` for any value. Of a field with
        /// several values one has to fit.
        headers: Vec<(FieldName, ValuePattern)> { headers(), default "{}" },
        /// Parameters of the query, with values as in `headers`. They are compared without their encoding.
        query: Vec<(String, ValuePattern)> { query(), default "{}" },
        /// Cookies, with values as in `headers`.
        cookies: Vec<(String, ValuePattern)> { cookies(), default "{}" },
        /// The client: an address of one of these networks, as trusted proxies tell it.
        client: Vec<IpNet> { networks(), default "[]" },
    }
}

impl RouteMatch {
    /// The requests that the route does not match.
    pub fn exceptions(&self) -> &[RequestConditions] {
        self.not.as_deref().unwrap_or_default()
    }

    /// Whether every request that `narrow` matches is certainly matched by this one too.
    pub(super) fn covers(&self, narrow: &RouteMatch) -> bool {
        let is_excepted = |exception: &RequestConditions| {
            let mut others = narrow.exceptions().iter();
            others.any(|other| other.covers(exception))
        };
        self.conditions.covers(&narrow.conditions) && self.exceptions().iter().all(is_excepted)
    }

    /// Whether an exception has all that the route would match.
    pub(super) fn matches_nothing(&self) -> bool {
        let mut exceptions = self.exceptions().iter();
        exceptions.any(|exception| exception.covers(&self.conditions))
    }
}

impl RequestConditions {
    /// Whether every request fits.
    pub fn is_empty(&self) -> bool {
        self.host.is_none() && self.path.is_none() && !self.has_further()
    }

    /// Whether there are conditions beside host and path.
    pub fn has_further(&self) -> bool {
        let RequestConditions {
            host: _,
            path: _,
            methods,
            headers,
            query,
            cookies,
            client,
        } = self;
        !(methods.is_empty()
            && headers.is_empty()
            && query.is_empty()
            && cookies.is_empty()
            && client.is_empty())
    }

    /// Whether every request that fits `narrow` certainly fits these conditions too.
    fn covers(&self, narrow: &RequestConditions) -> bool {
        let RequestConditions {
            host,
            path,
            methods,
            headers,
            query,
            cookies,
            client,
        } = self;
        covers_host(host.as_deref(), narrow.host.as_deref())
            && PathPattern::covers(path.as_ref(), narrow.path.as_ref())
            && covers_some(methods, &narrow.methods, |wide, narrow| wide == narrow)
            && covers_values(headers, &narrow.headers)
            && covers_values(query, &narrow.query)
            && covers_values(cookies, &narrow.cookies)
            && covers_some(client, &narrow.client, |wide, narrow| wide.contains(narrow))
    }
}

fn covers_host(wide: Option<&str>, narrow: Option<&str>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => match wide.strip_prefix('*') {
            // ".example.com" ends what it covers: names and patterns below example.com, but not that name itself.
            Some(ending) => {
                narrow.strip_prefix('*').unwrap_or(narrow).ends_with(ending)
                    && narrow.len() > ending.len()
            }
            None => wide == narrow,
        },
    }
}

/// Lists of which one element has to fit; an empty one asks for nothing.
fn covers_some<T>(wide: &[T], narrow: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    let has = |narrow: &T| wide.iter().any(|wide| covers(wide, narrow));
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(has))
}

/// Lists of which all elements have to fit.
fn covers_values<N: PartialEq>(wide: &[(N, ValuePattern)], narrow: &[(N, ValuePattern)]) -> bool {
    wide.iter().all(|(name, wide)| {
        let mut narrow = narrow.iter();
        narrow.any(|(other, narrow)| other == name && wide.covers(narrow))
    })
}

/// A map, or a list of maps, none of them empty.
fn exceptions() -> List<impl Kind<Value = RequestConditions>> {
    list("maps", map_of::<RequestConditions>())
        .or_single_map()
        .up_to(MAX_CONDITIONS)
        .not_empty("there is nothing in `not`; write a map with at least one key or leave it out")
        .checked(|node, exceptions, reader| {
            let empty = exceptions.iter().filter(|(_, it)| it.is_empty());
            for (index, _) in empty {
                let element = node.elements().get(*index);
                let mut keys = element.unwrap_or(node).entries().iter();
                if keys.any(|entry| !RequestConditions::has_key(&entry.key)) {
                    // An unknown key is reported already.
                    continue;
                }
                let message =
                    "every request fits an empty map, so no request would get here; write a key";
                match element {
                    Some(element) => {
                        reader.in_element(*index, |reader| reader.problem(element, message));
                    }
                    None => reader.problem(node, message),
                }
            }
        })
}

fn methods() -> List<Scalar<Method>> {
    let method = scalar("a method", method, |method: &Method| json!(method.as_str()));
    list("methods", method).up_to(MAX_CONDITIONS)
}

/// Methods whose names are often written in lower case.
const COMMON_METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT",
];

fn method(text: &str) -> Result<Method, String> {
    let upper = text.to_ascii_uppercase();
    if upper != text && COMMON_METHODS.contains(&upper.as_str()) {
        return Err(format!(
            "{} is not a method of HTTP, where case counts; did you mean `{upper}`?",
            quote(text)
        ));
    }
    Method::from_bytes(text.as_bytes())
        .map_err(|_| format!("{} is not a method such as `GET`", quote(text)))
}

fn headers() -> impl Kind<Value = Vec<(FieldName, ValuePattern)>> {
    let read = |text: &str| match field_name(text) {
        Ok(field) if field.name == http::header::HOST => {
            Err("the host of a request is matched by `host`".to_owned())
        }
        field => field,
    };
    let dump = |name: &FieldName| name.written.clone();
    table(
        "a map of header fields",
        MAX_CONDITIONS,
        read,
        dump,
        value_pattern(),
    )
}

fn query() -> impl Kind<Value = Vec<(String, ValuePattern)>> {
    let read = |text: &str| Ok(text.to_owned());
    table(
        "a map of parameters",
        MAX_CONDITIONS,
        read,
        String::clone,
        value_pattern(),
    )
}

fn cookies() -> impl Kind<Value = Vec<(String, ValuePattern)>> {
    let read = |text: &str| match is_token(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{} is not the name of a cookie", quote(text))),
    };
    table(
        "a map of cookies",
        MAX_CONDITIONS,
        read,
        String::clone,
        value_pattern(),
    )
}
