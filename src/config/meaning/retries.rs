//! `retries`: when a request that failed is sent again.

use std::time::Duration;

use super::super::errors::Problems;
use super::super::model::Retries;
use super::super::place::Place;
use super::super::words::{percent, quote, time, whole};
use super::super::yaml::{self, Form, OneOrMany};
use super::health;

const ATTEMPTS: usize = 2;
/// Statuses by which a host says that it, or something behind it, could not do the work.
const STATUSES: [u16; 3] = [502, 503, 504];
/// In percent.
const BUDGET: u32 = 20;
const MIN: u32 = 3;
const DEADLINE: Duration = Duration::from_secs(10);
/// A number of retries at a time that no pool has; more is a slip.
const MOST_MIN: u32 = 1_000_000;

/// `None` after `retries: none`.
pub(super) fn retries(
    said: Option<Form<yaml::Retries>>,
    place: &Place,
    problems: &mut Problems,
) -> Option<Retries> {
    let said = match said {
        None => yaml::Retries::default(),
        Some(Form::Full(said)) => said,
        Some(Form::Short(text)) => {
            if text != "none" {
                let hint = match text.parse::<usize>() {
                    Ok(number) => format!("; did you mean `{{ attempts: {number} }}`?"),
                    Err(_) => String::new(),
                };
                let shown = quote(&text);
                problems.add(place, format!("{shown} is neither `none` nor a map{hint}"));
            }
            return None;
        }
    };
    let yaml::Retries {
        attempts,
        statuses,
        budget,
        min,
        deadline,
    } = said;
    Some(Retries {
        attempts: problems.value(&place.key("attempts"), attempts.0, ATTEMPTS, |text| {
            let hint = if text == "0" {
                "; `retries: none` turns them off"
            } else {
                ""
            };
            whole(text, 1..=Retries::MOST_ATTEMPTS).map_err(|wrong| wrong + hint)
        }),
        statuses: self::failures(statuses.0, &place.key("statuses"), problems),
        budget: problems.value(&place.key("budget"), budget.0, BUDGET, |text| {
            percent(text, 0..=100)
        }),
        min: problems.value(&place.key("min"), min.0, MIN, |text| {
            whole(text, 0..=MOST_MIN)
        }),
        deadline: problems.value(&place.key("deadline"), deadline.0, DEADLINE, time),
    })
}

fn failures(said: Option<OneOrMany>, place: &Place, problems: &mut Problems) -> Vec<(u16, u16)> {
    match said {
        None => STATUSES.map(|status| (status, status)).to_vec(),
        Some(OneOrMany::One(text)) => Vec::from_iter(problems.take(place, failure(&text))),
        Some(OneOrMany::Many(list)) => {
            let list = list.iter().enumerate();
            list.filter_map(|(index, text)| problems.take(&place.index(index), failure(text)))
                .collect()
        }
    }
}

/// Reads `503` or `500-599`: an answer that a client may be spared.
fn failure(text: &str) -> Result<(u16, u16), String> {
    match health::statuses(text)? {
        range @ (400.., _) => Ok(range),
        _ => Err(format!(
            "{} is no failure, which has a status from 400 to 599",
            quote(text)
        )),
    }
}
