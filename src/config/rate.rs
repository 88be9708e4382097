//! `rate`: how many requests a client may send.

use std::num::NonZeroU32;

use http::header::HeaderName;
use serde_json::json;

use super::hints::quote;
use super::scalars;
use super::schema::{Kind, Scalar, converted, map_of, scalar, section};

/// Far beyond what one machine serves.
const MAX_RATE: u32 = 10_000_000;

section! {
    /// How many requests a client may send; beyond it 429.
    pub(super) struct RateKeys: Eq {
        /// Requests per second in the long run.
        requests: NonZeroU32 { count(), required "100" },
        /// Requests at once after a silence; without it as many as per second.
        burst: Option<NonZeroU32> { count(), optional "200" },
        /// What counts as one client: `client_ip` (of IPv6 the first 64 bits), or `header:NAME`.
        key: RateKey { key(), default "client_ip" },
    }
}

/// How many requests a client may send; beyond it 429.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second in the long run.
    pub requests: NonZeroU32,
    /// Requests at once after a silence.
    pub burst: NonZeroU32,
    /// What counts as one client.
    pub key: RateKey,
}

/// What counts as one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateKey {
    /// The client's address; of IPv6 the first 64 bits, which is what one client is given.
    ClientIp,
    /// A header field's value; a request without it counts for its client's address.
    Header(HeaderName),
}

/// A map with the keys of a rate.
pub(super) fn rate() -> impl Kind<Value = Rate> {
    converted(
        map_of::<RateKeys>(),
        |keys, _, _| {
            let RateKeys {
                requests,
                burst,
                key,
            } = keys;
            Some(Rate {
                requests,
                burst: burst.unwrap_or(requests),
                key,
            })
        },
        |rate: &Rate| RateKeys {
            requests: rate.requests,
            burst: Some(rate.burst),
            key: rate.key.clone(),
        },
    )
}

fn count() -> Scalar<NonZeroU32> {
    let read = |text: &str| {
        let count = scalars::whole(text, 1..=MAX_RATE)?;
        NonZeroU32::new(count).ok_or_else(|| format!("{} is not above 0", quote(text)))
    };
    scalar(
        format!("a whole number from 1 to {MAX_RATE}"),
        read,
        |count| json!(count),
    )
    .with_schema(json!({ "type": "integer", "minimum": 1, "maximum": MAX_RATE }))
}

fn key() -> Scalar<RateKey> {
    let read = |text: &str| {
        if text == "client_ip" {
            return Ok(RateKey::ClientIp);
        }
        let name = text.strip_prefix("header:").map(str::trim);
        name.and_then(|name| name.parse::<HeaderName>().ok())
            .map(RateKey::Header)
            .ok_or_else(|| format!("{} is neither `client_ip` nor `header:NAME`", quote(text)))
    };
    let dump = |key: &RateKey| match key {
        RateKey::ClientIp => json!("client_ip"),
        RateKey::Header(name) => json!(format!("header:{name}")),
    };
    scalar("`client_ip` or `header:NAME`", read, dump)
}
