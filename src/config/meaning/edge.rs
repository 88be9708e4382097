//! Clients: who may come in, and how often (`allow`, `deny`, `rate`), and when one has left (`half_close`).

use std::net::IpAddr;
use std::num::NonZeroU32;

use http::header::HeaderName;
use ipnet::IpNet;

use super::super::access::Access;
use super::super::errors::Problems;
use super::super::model::{HalfClose, Rate, RateKey};
use super::super::place::Place;
use super::super::words::{choice, quote, whole};
use super::super::yaml::{self, Said};

/// Far beyond what one machine serves; more is a slip.
const HIGHEST_RATE: u32 = 10_000_000;

/// `allow` and `deny` of what stands at `place`.
pub(super) fn access(
    allow: Vec<String>,
    deny: Vec<String>,
    place: &Place,
    problems: &mut Problems,
) -> Access {
    Access {
        allow: networks(allow, &place.key("allow"), problems),
        deny: networks(deny, &place.key("deny"), problems),
    }
}

/// What the end of a client's sending side means.
pub(super) fn half_close(
    said: Option<String>,
    place: &Place,
    problems: &mut Problems,
) -> HalfClose {
    let choices = [("abort", HalfClose::Abort), ("serve", HalfClose::Serve)];
    problems.value(place, said, HalfClose::Abort, |text| choice(text, &choices))
}

/// A rate, if one is said.
pub(super) fn rate(said: Said<yaml::Rate>, place: &Place, problems: &mut Problems) -> Option<Rate> {
    let yaml::Rate {
        requests,
        burst,
        key,
    } = said.0?;
    let count = |text: &str| {
        let count = whole(text, 1..=HIGHEST_RATE)?;
        NonZeroU32::new(count).ok_or_else(|| format!("{} is no number of requests", quote(text)))
    };
    let key = problems.value(&place.key("key"), key.0, RateKey::ClientIp, rate_key);
    let burst = problems.optional(&place.key("burst"), burst.0, count);
    if requests.0.is_none() {
        problems.add(place, "`requests` is missing, the requests per second");
    }
    let requests = problems.optional(&place.key("requests"), requests.0, count)?;
    Some(Rate {
        requests,
        burst: burst.unwrap_or(requests),
        key,
    })
}

fn rate_key(text: &str) -> Result<RateKey, String> {
    if text == "client_ip" {
        return Ok(RateKey::ClientIp);
    }
    let name = text.strip_prefix("header:").map(str::trim);
    name.and_then(|name| name.parse::<HeaderName>().ok())
        .map(RateKey::Header)
        .ok_or_else(|| format!("{} is neither `client_ip` nor `header:NAME`", quote(text)))
}

/// Reads a list of networks.
pub(super) fn networks(said: Vec<String>, place: &Place, problems: &mut Problems) -> Vec<IpNet> {
    let networks = said.into_iter().enumerate();
    networks
        .filter_map(|(index, text)| problems.take(&place.index(index), network(&text)))
        .collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| {
        format!(
            "{} is neither a network such as `10.0.0.0/8` nor an address",
            quote(text)
        )
    })?;
    if network.trunc() == network {
        Ok(network)
    } else {
        Err(format!(
            "{} has bits behind its prefix; did you mean `{}`?",
            quote(text),
            network.trunc()
        ))
    }
}
