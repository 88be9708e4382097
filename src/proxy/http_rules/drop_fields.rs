//! Removal of request fields before routing.

use http::header::{HeaderMap, HeaderName};
use pingora::http::RequestHeader;

use super::is_dropped;
use crate::proxy::active_config::ActiveConfig;
use crate::proxy::forwarding::header_editor::HeaderEditor;

/// Removes the fields that are [dropped](is_dropped) before routing.
pub(crate) fn drop_fields(request: &mut RequestHeader, active: &ActiveConfig, trusted: bool) {
    for name in &names_where(&request.headers, |name| is_dropped(name, active, trusted)) {
        request.remove(name);
    }
}

/// The names of the fields that satisfy a predicate.
pub(crate) fn names_where(fields: &HeaderMap, matches: impl Fn(&[u8]) -> bool) -> Vec<HeaderName> {
    let names = fields.keys();
    names
        .filter(|name| matches(name.as_str().as_bytes()))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_removed_with_all_values() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for name in ["X_Real_IP", "X-Real-IP", "_", "Host", "x_real_ip"] {
            request.append_header(name, "1").unwrap();
        }
        for name in names_where(&request.headers, |name| name.contains(&b'_')) {
            request.remove(&name);
        }
        assert_eq!(request.headers.len(), 2);
        assert!(request.headers.contains_key("x-real-ip"));
        assert!(request.headers.contains_key("host"));
    }
}
