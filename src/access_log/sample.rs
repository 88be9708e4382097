//! Which requests have their line.

use rand::Rng;

use crate::config::Sample;

/// A number below a million, each as likely as the others.
pub(super) fn draw() -> u32 {
    rand::thread_rng().gen_range(0..Sample::MILLION)
}

/// Whether a request that was answered with `status` has its line. One that got no answer has it always.
pub(super) fn is_chosen(
    samples: &[Sample],
    status: Option<u16>,
    draw: impl FnOnce() -> u32,
) -> bool {
    let Some(status) = status else {
        return true;
    };
    let has = |sample: &&Sample| {
        let mut ranges = sample.statuses.iter();
        ranges.any(|(low, high)| (*low..=*high).contains(&status))
    };
    let sample = samples.iter().find(has);
    sample.is_none_or(|sample| draw() < sample.per_million)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sample_that_fits_decides() {
        let sample = |range, per_million| Sample {
            statuses: vec![range],
            per_million,
        };
        let samples = [sample((404, 404), 0), sample((200, 499), 10_000)];
        for (status, draw, chosen) in [
            (Some(200), 9_999, true),
            (Some(200), 10_000, false),
            (Some(404), 0, false),
            (Some(499), 0, true),
            (Some(500), 999_999, true),
            (None, 999_999, true),
        ] {
            let of_draw = is_chosen(&samples, status, || draw);
            assert_eq!(of_draw, chosen, "{status:?} {draw}");
        }
        let all = [sample((200, 200), Sample::MILLION)];
        assert!(is_chosen(&all, Some(200), || Sample::MILLION - 1));
    }

    #[test]
    fn draws_are_below_a_million() {
        assert!((0..10_000).all(|_| draw() < Sample::MILLION));
    }
}
