//! `health_check`: the active check of a pool's hosts.

use std::time::Duration;

use http::Method;
use http::uri::{Authority, PathAndQuery};

use super::super::errors::Problems;
use super::super::model::{HealthCheck, Initial, Probe};
use super::super::place::Place;
use super::super::words::{choice, quote, shown, time, whole};
use super::super::yaml::{self, Form, OneOrMany, Said};

const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);
const RISE: usize = 2;
const FALL: usize = 3;
/// A host that needs more results in a row would hardly ever change its state.
const MOST_IN_A_ROW: usize = 1_000;
/// Any answer that is neither an error nor an interim one.
const EXPECT: (u16, u16) = (200, 399);

/// `None` after `health_check: none`.
pub(super) fn health_check(
    said: Option<Form<yaml::HealthCheck>>,
    place: &Place,
    problems: &mut Problems,
) -> Option<HealthCheck> {
    let said = match said {
        None => yaml::HealthCheck::default(),
        Some(Form::Full(said)) => said,
        Some(Form::Short(text)) => {
            let hint = match text.as_str() {
                "none" => return None,
                "tcp" | "http" => format!("; did you mean `{{ type: {text} }}`?"),
                _ => String::new(),
            };
            let shown = quote(&text);
            problems.add(place, format!("{shown} is neither `none` nor a map{hint}"));
            return None;
        }
    };
    let yaml::HealthCheck {
        r#type,
        interval,
        timeout,
        rise,
        fall,
        initial,
        method,
        path,
        host,
        expect,
    } = said;
    let request = Request {
        method,
        path,
        host,
        expect,
    };
    let probe = probe(r#type, request, place, problems);
    let (interval, timeout) = times(interval, timeout, place, problems);
    let mut in_a_row = |key, said: Said<String>, default| {
        problems.value(&place.key(key), said.0, default, |text| {
            whole(text, 1..=MOST_IN_A_ROW)
        })
    };
    let rise = in_a_row("rise", rise, RISE);
    let fall = in_a_row("fall", fall, FALL);
    let initial = problems.value(&place.key("initial"), initial.0, Initial::Unknown, |text| {
        choice(text, &[("unknown", Initial::Unknown), ("up", Initial::Up)])
    });
    Some(HealthCheck {
        probe,
        interval,
        timeout,
        rise,
        fall,
        initial,
    })
}

fn times(
    interval: Said<String>,
    timeout: Said<String>,
    place: &Place,
    problems: &mut Problems,
) -> (Duration, Duration) {
    let before = problems.count();
    // The key to blame if the two do not fit each other.
    let blamed = if timeout.0.is_some() {
        "timeout"
    } else {
        "interval"
    };
    let interval = problems.value(&place.key("interval"), interval.0, INTERVAL, time);
    let timeout = problems.value(&place.key("timeout"), timeout.0, TIMEOUT, time);
    if problems.count() == before && timeout > interval {
        problems.add(
            &place.key(blamed),
            format!(
                "the timeout of {} is longer than the interval of {}; a check must end before the next begins",
                shown(timeout),
                shown(interval)
            ),
        );
    }
    (interval, timeout)
}

/// The keys of an HTTP check alone.
struct Request {
    method: Said<String>,
    path: Said<String>,
    host: Said<String>,
    expect: Said<OneOrMany>,
}

#[derive(Clone, Copy)]
enum Kind {
    Tcp,
    Http,
}

fn probe(kind: Said<String>, request: Request, place: &Place, problems: &mut Problems) -> Probe {
    let before = problems.count();
    let kind = problems.value(&place.key("type"), kind.0, Kind::Tcp, |text| {
        choice(text, &[("tcp", Kind::Tcp), ("http", Kind::Http)])
    });
    let Request {
        method,
        path,
        host,
        expect,
    } = request;
    match kind {
        Kind::Tcp => {
            let said = [
                ("method", method.0.is_some()),
                ("path", path.0.is_some()),
                ("host", host.0.is_some()),
                ("expect", expect.0.is_some()),
            ];
            // If the type itself is wrong, its keys may well be right.
            let is_tcp = problems.count() == before;
            for (key, _) in said.into_iter().filter(|(_, said)| is_tcp && *said) {
                problems.add(
                    &place.key(key),
                    format!("`{key}` is of use in an HTTP check only; did you mean `type: http`?"),
                );
            }
            Probe::Tcp
        }
        Kind::Http => Probe::Http {
            method: problems.value(&place.key("method"), method.0, Method::GET, self::method),
            path: problems.value(
                &place.key("path"),
                path.0,
                PathAndQuery::from_static("/"),
                self::path,
            ),
            host: problems.optional(&place.key("host"), host.0, self::host),
            expect: self::expect(expect.0, &place.key("expect"), problems),
        },
    }
}

fn method(text: &str) -> Result<Method, String> {
    let upper = text.to_ascii_uppercase();
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) | Err(_) => Err(format!("{} is not a method for a check", quote(text))),
        Ok(_) if upper != text => Err(format!(
            "{} is not in capital letters; did you mean `{upper}`?",
            quote(text)
        )),
        Ok(method) => Ok(method),
    }
}

fn path(text: &str) -> Result<PathAndQuery, String> {
    if !text.starts_with('/') {
        return Err(format!("{} does not begin with `/`", quote(text)));
    }
    text.parse()
        .map_err(|error| format!("{} is not a path: {error}", quote(text)))
}

fn host(text: &str) -> Result<String, String> {
    match text.parse::<Authority>() {
        Ok(host) if !text.contains('@') && !host.host().is_empty() => Ok(text.to_owned()),
        _ => Err(format!("{} is not a host name", quote(text))),
    }
}

fn expect(said: Option<OneOrMany>, place: &Place, problems: &mut Problems) -> Vec<(u16, u16)> {
    let list = match said {
        None => return vec![EXPECT],
        Some(OneOrMany::One(text)) => {
            return Vec::from_iter(problems.take(place, statuses(&text)));
        }
        Some(OneOrMany::Many(list)) => list,
    };
    if list.is_empty() {
        problems.add(
            place,
            "no status is expected, so no host could ever be healthy",
        );
    }
    let list = list.iter().enumerate();
    list.filter_map(|(index, text)| problems.take(&place.index(index), statuses(text)))
        .collect()
}

/// Reads `200` or `200-299`.
pub(super) fn statuses(text: &str) -> Result<(u16, u16), String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        let status = text.trim().parse().ok();
        status.filter(|status| (100..=599).contains(status))
    };
    match (status(low), status(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        (Some(low), Some(high)) => Err(format!(
            "{} is empty; did you mean `{high}-{low}`?",
            quote(text)
        )),
        _ => Err(format!(
            "{} is neither a status from 100 to 599 nor a range such as `200-299`",
            quote(text)
        )),
    }
}
