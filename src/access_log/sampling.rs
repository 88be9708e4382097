//! Decides which requests are logged.

use crate::config::Sample;

/// Whether a request with this status is logged. `draw` returns the random number. A request without a response is
/// always logged.
pub(super) fn is_sampled(
    samples: &[Sample],
    status: Option<u16>,
    draw: impl FnOnce() -> u64,
) -> bool {
    let Some(status) = status else {
        return true;
    };
    let matches = |sample: &&Sample| {
        let mut ranges = sample.statuses.iter();
        ranges.any(|(low, high)| (*low..=*high).contains(&status))
    };
    let sample = samples.iter().find(matches);
    sample.is_none_or(|sample| sample.share.takes(draw()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Share;

    #[test]
    fn the_first_matching_sample_decides() {
        let sample = |range, per_million: u32| Sample {
            statuses: vec![range],
            share: Share::of_percent(f64::from(per_million) / 1e4),
        };
        // Converts a number below a million to a random draw.
        let drawn = |number: u32| (u128::from(number) << 64).div_ceil(1_000_000) as u64;
        let samples = [sample((404, 404), 0), sample((200, 499), 10_000)];
        for (status, draw, chosen) in [
            (Some(200), 9_999, true),
            (Some(200), 10_000, false),
            (Some(404), 0, false),
            (Some(499), 0, true),
            (Some(500), 999_999, true),
            (None, 999_999, true),
        ] {
            let of_draw = is_sampled(&samples, status, || drawn(draw));
            assert_eq!(of_draw, chosen, "{status:?} {draw}");
        }
        let all = [sample((200, 200), 1_000_000)];
        assert!(is_sampled(&all, Some(200), || drawn(999_999)));
    }
}
