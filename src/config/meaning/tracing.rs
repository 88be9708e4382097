//! `tracing`: which requests are traced, and who is told of them.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Scheme, Uri};

use super::super::errors::Problems;
use super::super::place::Place;
use super::super::tracing::{Endpoint, Otlp, Share, Tracing};
use super::super::words::{choice, quote, time, whole};
use super::super::yaml::{self, Entries};

/// In percent: enough to see what happens, at a cost that is not felt.
const SAMPLE: f64 = 10.0;
const SERVICE: &str = "ballast";
const TIMEOUT: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_secs(1);
const QUEUE: usize = 2_048;
/// About a gigabyte of requests that wait; more is a slip.
const MOST_QUEUE: usize = 1_000_000;
const LONGEST_SERVICE: usize = 255;
/// Where OTLP over HTTP takes traces, behind whatever path a collector has in front.
const PATH: &str = "/v1/traces";
/// Fields that say how a request is made up, which is not for the file to say.
const OURS: [HeaderName; 5] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
];

/// `None` if nothing is said.
pub(super) fn tracing(
    said: Option<yaml::Tracing>,
    place: &Place,
    problems: &mut Problems,
) -> Option<Tracing> {
    let yaml::Tracing {
        sample,
        trust_clients,
        otlp,
    } = said?;
    let default = Share::of_percent(SAMPLE);
    Some(Tracing {
        sample: problems.value(&place.key("sample"), sample.0, default, share),
        trust_clients: problems.value(
            &place.key("trust_clients"),
            trust_clients.0,
            false,
            |text| choice(text, &[("true", true), ("false", false)]),
        ),
        otlp: otlp
            .0
            .and_then(|said| self::otlp(said, &place.key("otlp"), problems)),
    })
}

/// `None` if it does not say where the collector is, which is a problem.
fn otlp(said: yaml::Otlp, place: &Place, problems: &mut Problems) -> Option<Otlp> {
    let yaml::Otlp {
        endpoint,
        headers,
        service,
        timeout,
        interval,
        queue,
    } = said;
    if endpoint.0.is_none() {
        problems.add(place, "`endpoint` is missing, the URL of the collector");
    }
    let endpoint = problems.optional(&place.key("endpoint"), endpoint.0, self::endpoint);
    let headers = fields(headers, &place.key("headers"), problems);
    let service = problems.value(
        &place.key("service"),
        service.0,
        SERVICE.to_owned(),
        self::service,
    );
    let timeout = problems.value(&place.key("timeout"), timeout.0, TIMEOUT, time);
    let interval = problems.value(&place.key("interval"), interval.0, INTERVAL, time);
    let queue = problems.value(&place.key("queue"), queue.0, QUEUE, |text| {
        whole(text, 1..=MOST_QUEUE)
    });
    Some(Otlp {
        endpoint: endpoint?,
        headers,
        service,
        timeout,
        interval,
        queue,
    })
}

/// Reads `10%` or `0.5%`.
fn share(text: &str) -> Result<Share, String> {
    let number = text.strip_suffix('%').map(str::trim_end);
    match number.map(str::parse::<f64>) {
        Some(Ok(percent)) if (0.0..=100.0).contains(&percent) => Ok(Share::of_percent(percent)),
        None if text.parse::<f64>().is_ok() => Err(format!(
            "{} has no percent sign, as `10%` or `0.5%` have",
            quote(text)
        )),
        _ => Err(format!("{} is not a share from 0% to 100%", quote(text))),
    }
}

/// Reads the URL of a collector; traces go to its path and [`PATH`] behind it.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    let wrong = || {
        format!(
            "{} is not a URL such as `http://127.0.0.1:4318`",
            quote(text)
        )
    };
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(wrong());
    };
    let tls = *scheme == Scheme::HTTPS;
    if !(tls || *scheme == Scheme::HTTP) {
        return Err(format!("{} is not http:// or https://", quote(text)));
    }
    if authority.as_str().contains('@') || uri.query().is_some() {
        return Err(format!(
            "{} has a user or a query; what the collector asks for goes into `headers`",
            quote(text)
        ));
    }
    let port = match (authority.port(), tls) {
        (Some(port), _) if port.as_u16() > 0 => port.as_u16(),
        // What is behind the name is no port of 16 bits, if anything is.
        (None, _) if authority.as_str() != authority.host() => return Err(wrong()),
        (None, true) => 443,
        (None, false) => 80,
        _ => return Err(wrong()),
    };
    let host = authority.host().trim_matches(['[', ']']);
    if host.is_empty() {
        return Err(wrong());
    }
    let path = uri.path().trim_end_matches('/');
    Ok(Endpoint {
        tls,
        host: host.to_ascii_lowercase(),
        port,
        path: match path.ends_with(PATH) {
            true => path.to_owned(),
            false => format!("{path}{PATH}"),
        },
    })
}

fn service(text: &str) -> Result<String, String> {
    match text.is_empty() || text.len() > LONGEST_SERVICE {
        true => Err(format!(
            "{} is not a name of 1 to {LONGEST_SERVICE} bytes",
            quote(text)
        )),
        false => Ok(text.to_owned()),
    }
}

fn fields(
    said: Entries<String>,
    place: &Place,
    problems: &mut Problems,
) -> Vec<(HeaderName, HeaderValue)> {
    let read = said.0.into_iter().filter_map(|(name, value)| {
        let place = place.key(&name);
        problems.take(&place, field(&name, &value))
    });
    read.collect()
}

/// The value is not shown: it may be a secret.
fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let known = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("{} is not the name of a header field", quote(name)))?;
    if OURS.contains(&known) {
        return Err(format!("{} is not for the file to say", quote(name)));
    }
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| "the value of a header field has other than visible characters".to_owned())?;
    value.set_sensitive(true);
    Ok((known, value))
}
