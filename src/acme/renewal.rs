//! When a certificate is renewed.

use crate::config::Validity;

/// The part of a certificate's life after which it is renewed, as a fraction.
const RENEWED_AFTER: (i128, i128) = (2, 3);

/// How much earlier it may be, as a part of its life: clients that began together must not renew together.
const JITTER: i128 = 30;

/// The Unix time at which a certificate is to be renewed: after two thirds of its life, or up to a thirtieth of its life
/// before that, by `jitter`, a number from 0 to 2^32.
pub(super) fn renewal_time(validity: Validity, jitter: u32) -> i64 {
    let (from, until) = (i128::from(validity.from), i128::from(validity.until));
    let life = (until - from).max(0);
    let earlier = life * i128::from(jitter) / JITTER / (1 << 32);
    let time = from + life * RENEWED_AFTER.0 / RENEWED_AFTER.1 - earlier;
    // It is between the two.
    i64::try_from(time).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 60 * 60;
    const DAY: i64 = 24 * HOUR;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        for (life, latest, earliest) in [
            (90 * DAY, 60 * DAY, 57 * DAY),
            (6 * DAY, 4 * DAY, 4 * DAY - 17_280),
            (3 * HOUR, 2 * HOUR, 2 * HOUR - 360),
        ] {
            let validity = Validity {
                from: DAY,
                until: DAY + life,
            };
            assert_eq!(renewal_time(validity, 0), DAY + latest);
            let early = renewal_time(validity, u32::MAX);
            assert!((0..=1).contains(&(early - DAY - earliest)), "{early}");
        }
    }

    proptest! {
        #[test]
        fn the_time_is_within_the_life(from: i64, until: i64, jitter: u32) {
            let time = renewal_time(Validity { from, until }, jitter);
            prop_assert!(time >= from);
            prop_assert!(time <= until.max(from));
        }
    }
}
