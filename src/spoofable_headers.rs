//! Header fields that a client could forge: the identity of the client, and the URL that it requested.

/// The prefixes of families of names.
const FAMILIES: [&str; 2] = ["x-forwarded", "x-ssl-client"];

/// The other names, in lower case.
const NAMES: [&str; 7] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "x-cluster-client-ip",
    "client-ip",
    // CGI exposes it as the variable HTTP_PROXY (httpoxy).
    "proxy",
];

/// Whether a field is dropped by default. `_` equals `-`, as in CGI.
pub(crate) fn is_spoofable(name: &[u8]) -> bool {
    match name.first().map(u8::to_ascii_lowercase) {
        Some(b'x' | b'f' | b't' | b'c' | b'p') => {}
        _ => return false,
    }
    let is_in = |family: &str| {
        let begin = name.get(..family.len());
        begin.is_some_and(|begin| is_same_name(begin, family.as_bytes()))
    };
    FAMILIES.into_iter().any(is_in)
        || NAMES
            .iter()
            .any(|known| is_same_name(name, known.as_bytes()))
}

/// Whether two names are the same field in CGI: case is ignored, and `_` equals `-`.
pub(crate) fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    let folded = |byte: &u8| match byte {
        b'_' => b'-',
        other => other.to_ascii_lowercase(),
    };
    one.len() == other.len() && one.iter().map(folded).eq(other.iter().map(folded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_all_spellings() {
        let known = |name: &str| is_spoofable(name.as_bytes());
        for name in [
            "X-Forwarded-For",
            "X-Forwarded-Client-Cert",
            "x_forwarded_prefix",
            "X-SSL-Client-Verify",
            "x_ssl_client_cert",
            "X-Forwarded",
            "Forwarded",
            "X_Real-IP",
            "True-Client-IP",
            "client_ip",
            "Proxy",
        ] {
            assert!(known(name), "{name}");
        }
        for name in [
            "X-Forward",
            "Proxy-Authorization",
            "X-Request-Id",
            "Cookie",
            "X",
        ] {
            assert!(!known(name), "{name}");
        }
    }
}
