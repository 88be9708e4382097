//! `ejection`: when a host that fails requests gets none for a while.

use std::time::Duration;

use super::super::errors::Problems;
use super::super::place::Place;
use super::super::policies::{Ejection, Failures};
use super::super::words::{did_you_mean, percent, quote, shown, time, whole};
use super::super::yaml::{self, Form, OneOrMany, Said};
use super::health::statuses;
use super::unless_none;

const CONSECUTIVE: u32 = 5;
const RATE: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);
const MIN_REQUESTS: u32 = 20;
const BASE: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(300);
const MAX_EJECTED: u32 = 50;
/// As with checks: a host that needs more failures in a row would never be ejected.
const MOST_IN_A_ROW: u32 = 1_000;
const MOST_REQUESTS: u32 = 1_000_000;
/// `5xx`: the class without 501 and 505, which are answers about the request.
const SERVER_ERRORS: [(u16, u16); 3] = [(500, 500), (502, 504), (506, 599)];

/// `None` after `ejection: none`.
pub(super) fn ejection(
    said: Option<Form<yaml::Ejection>>,
    place: &Place,
    problems: &mut Problems,
) -> Option<Ejection> {
    let yaml::Ejection {
        failures,
        consecutive,
        rate,
        window,
        min_requests,
        base,
        max,
        max_ejected,
    } = unless_none(said, place, problems)?;
    let failures = self::failures(failures.0, &place.key("failures"), problems);
    let row = problems.value(
        &place.key("consecutive"),
        consecutive.0,
        CONSECUTIVE,
        |text| whole(text, 0..=MOST_IN_A_ROW),
    );
    let rate = problems.value(&place.key("rate"), rate.0, RATE, |text| {
        percent(text, 0..=100)
    });
    let (base, max) = times(base, max, place, problems);
    Some(Ejection {
        failures,
        consecutive: (row > 0).then_some(row),
        rate: (rate > 0).then_some(rate),
        window: problems.value(&place.key("window"), window.0, WINDOW, time),
        min_requests: problems.value(
            &place.key("min_requests"),
            min_requests.0,
            MIN_REQUESTS,
            |text| whole(text, 1..=MOST_REQUESTS),
        ),
        base,
        max,
        max_ejected: problems.value(
            &place.key("max_ejected"),
            max_ejected.0,
            MAX_EJECTED,
            |text| percent(text, 1..=100),
        ),
    })
}

fn times(
    base: Said<String>,
    max: Said<String>,
    place: &Place,
    problems: &mut Problems,
) -> (Duration, Duration) {
    let before = problems.count();
    // The key to blame if the two do not fit each other.
    let blamed = if max.0.is_some() { "max" } else { "base" };
    let base = problems.value(&place.key("base"), base.0, BASE, time);
    let max = problems.value(&place.key("max"), max.0, MAX, time);
    if problems.count() == before && max < base {
        problems.add(
            &place.key(blamed),
            format!(
                "the longest ejection of {} is shorter than the first one of {}",
                shown(max),
                shown(base)
            ),
        );
    }
    (base, max)
}

fn failures(said: Option<OneOrMany>, place: &Place, problems: &mut Problems) -> Failures {
    let Some(said) = said else {
        return Failures {
            connect: true,
            timeout: true,
            reset: true,
            malformed: true,
            statuses: Failures::HOST_STATUSES.to_vec(),
        };
    };
    let mut failures = Failures {
        connect: false,
        timeout: false,
        reset: false,
        malformed: false,
        statuses: Vec::new(),
    };
    let list = match said {
        OneOrMany::One(text) => vec![(place.clone(), text)],
        OneOrMany::Many(list) => {
            if list.is_empty() {
                let message = "nothing counts as a failure; did you mean `ejection: none`?";
                problems.add(place, message);
            }
            let list = list.into_iter().enumerate();
            Vec::from_iter(list.map(|(index, text)| (place.index(index), text)))
        }
    };
    for (place, text) in list {
        match text.as_str() {
            "connect" => failures.connect = true,
            "timeout" => failures.timeout = true,
            "reset" => failures.reset = true,
            "malformed" => failures.malformed = true,
            "5xx" => failures.statuses.extend(SERVER_ERRORS),
            _ => {
                let read = statuses(&text).map_err(|_| {
                    let words = ["connect", "timeout", "reset", "malformed", "5xx"];
                    format!(
                        "{} is not one of {} nor a status from 100 to 599{}",
                        quote(&text),
                        words.map(quote).join(", "),
                        did_you_mean(&text, words)
                    )
                });
                failures.statuses.extend(problems.take(&place, read));
            }
        }
    }
    failures
}
