//! `slow_start`: how hosts that are new or back come to their share.

use std::time::Duration;

use super::super::errors::Problems;
use super::super::place::Place;
use super::super::policies::SlowStart;
use super::super::words::{percent, time};
use super::super::yaml::{self, Form};
use super::unless_none;

const WINDOW: Duration = Duration::from_secs(10);
const FLOOR: u32 = 10;

/// `None` after `slow_start: none`.
pub(super) fn slow_start(
    said: Option<Form<yaml::SlowStart>>,
    place: &Place,
    problems: &mut Problems,
) -> Option<SlowStart> {
    let yaml::SlowStart { window, floor } = unless_none(said, place, problems)?;
    Some(SlowStart {
        window: problems.value(&place.key("window"), window.0, WINDOW, time),
        floor: problems.value(&place.key("floor"), floor.0, FLOOR, |text| {
            percent(text, 1..=100)
        }),
    })
}
