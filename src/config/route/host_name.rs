//! The host names of routes.

use std::net::Ipv6Addr;

use serde_json::json;

use crate::config::hints::quote;
use crate::config::schema::{Scalar, scalar};

/// A host name, with or without `*.` before it.
pub(super) fn host() -> Scalar<String> {
    scalar("a host name", parse_host, |host| json!(host))
}

fn parse_host(text: &str) -> Result<String, String> {
    let shown = quote(text);
    let lower = text.to_lowercase();
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    if let Some(address) = lower
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        return Ok(format!("[{address}]"));
    }
    if is_v6(&lower) {
        return Err(format!("{shown} needs brackets; did you mean `[{lower}]`?"));
    }
    if let Some((name, port)) = lower.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return Err(format!(
            "{shown} has a port, but routes match the name alone; did you mean {}?",
            quote(name)
        ));
    }
    if let Some(name) = lower.strip_suffix('.')
        && !name.is_empty()
    {
        return Err(format!(
            "{shown} ends with a dot, and names are compared without it; did you mean {}?",
            quote(name)
        ));
    }
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name
        .split('.')
        .all(|label| !label.is_empty() && label.chars().all(proper))
    {
        return Ok(lower);
    }
    Err(format!(
        "{shown} is not a host name such as `api.example.com` or `*.example.com`"
    ))
}
