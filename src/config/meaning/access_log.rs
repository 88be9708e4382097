//! `access_log`: what is written about each request, and where.

use super::super::access_log::{AccessLog, LogFormat, LogTarget, Sample};
use super::super::errors::Problems;
use super::super::place::Place;
use super::super::tracing::Share;
use super::super::words::{choice, quote, size};
use super::super::yaml::{self, OneOrMany};
use super::{World, health, server};

/// The word for the standard output.
const STDOUT: &str = "-";
/// Ten thousand lines of a common length.
const BUFFER: usize = 4 << 20;
/// A line may have as many bytes as a request's head.
const SMALLEST_BUFFER: u64 = 64 << 10;
/// Twice as much is held in memory; more is a slip.
const LARGEST_BUFFER: u64 = 1 << 30;

/// `None` if nothing is said.
pub(super) fn access_log(
    said: Option<yaml::AccessLog>,
    world: &World<'_>,
    place: &Place,
    problems: &mut Problems,
) -> Option<AccessLog> {
    let yaml::AccessLog {
        path,
        format,
        sample,
        buffer,
    } = said?;
    if path.0.is_none() {
        problems.add(
            place,
            format!("`path` is missing, a file or `{STDOUT}` for the standard output"),
        );
    }
    let target = problems.optional(&place.key("path"), path.0, |text| match text {
        STDOUT => Ok(LogTarget::Stdout),
        path => server::path(path, world, usize::MAX).map(LogTarget::File),
    });
    let formats = [("json", LogFormat::Json), ("combined", LogFormat::Combined)];
    let format = problems.value(&place.key("format"), format.0, LogFormat::Json, |text| {
        choice(text, &formats)
    });
    let range = SMALLEST_BUFFER..=LARGEST_BUFFER;
    let buffer = problems.value(&place.key("buffer"), buffer.0, BUFFER, |text| {
        size(text, range).map(|bytes| bytes as usize)
    });
    let place = place.key("sample");
    let samples = sample.into_iter().enumerate();
    let samples = samples
        .filter_map(|(index, said)| self::sample(said, &place.index(index), problems))
        .collect();
    Some(AccessLog {
        target: target?,
        format,
        samples,
        buffer,
    })
}

fn sample(said: yaml::Sample, place: &Place, problems: &mut Problems) -> Option<Sample> {
    let yaml::Sample { statuses, share } = said;
    for (key, is_missing) in [
        ("statuses", statuses.0.is_none()),
        ("share", share.0.is_none()),
    ] {
        if is_missing {
            problems.add(place, format!("`{key}` is missing"));
        }
    }
    let key = place.key("statuses");
    let statuses = match statuses.0? {
        OneOrMany::One(text) => Vec::from_iter(problems.take(&key, health::statuses(&text))),
        OneOrMany::Many(list) => {
            let list = list.iter().enumerate();
            list.filter_map(|(index, text)| {
                problems.take(&key.index(index), health::statuses(text))
            })
            .collect()
        }
    };
    let share = problems.optional(&place.key("share"), share.0, self::share)?;
    Some(Sample { statuses, share })
}

/// Reads `1%` or `0.05%`.
fn share(text: &str) -> Result<Share, String> {
    let number = text.strip_suffix('%').map(str::trim_end);
    if number.is_none() && text.parse::<f64>().is_ok() {
        return Err(format!(
            "{} has no percent sign; write `{text}%`",
            quote(text)
        ));
    }
    let is_plain = |number: &&str| number.chars().all(|c| c.is_ascii_digit() || c == '.');
    match number.filter(is_plain).map(str::parse::<f64>) {
        Some(Ok(percent)) if percent <= 100.0 => Ok(Share::of_percent(percent)),
        _ => Err(format!("{} is not a share from 0% to 100%", quote(text))),
    }
}
