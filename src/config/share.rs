//! Shares of many, such as `0.5%`.

use std::fmt;

use serde_json::json;

use super::hints::quote;
use super::schema::{Scalar, scalar};

/// A share from 0% to 100%, as exact as a millionth.
pub(super) fn share() -> Scalar<Share> {
    let dump = |share: &Share| json!(share.to_string());
    scalar("a share from 0% to 100%", parse, dump)
        .with_schema(json!({ "type": "string", "pattern": "^[0-9.]+ *%$" }))
}

fn parse(text: &str) -> Result<Share, String> {
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

/// A share of many, as exact as a millionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    millionths: u32,
}

impl Share {
    /// The whole, in millionths.
    const WHOLE: u32 = 1_000_000;

    /// A share in percent. Less than 0 counts as 0, more than 100 as 100.
    pub fn of_percent(percent: f64) -> Self {
        let millionths = percent.clamp(0.0, 100.0) / 100.0 * f64::from(Share::WHOLE);
        Share {
            millionths: millionths.round() as u32,
        }
    }

    /// The share in millionths.
    pub fn millionths(self) -> u32 {
        self.millionths
    }

    /// Whether `drawn`, a random number, falls into the share.
    pub fn takes(self, drawn: u64) -> bool {
        let place = (u128::from(drawn) * u128::from(Share::WHOLE)) >> 64;
        place < u128::from(self.millionths)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.millionths) / 1e4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_selects_its_percentage() {
        let selected = |percent| {
            let share = Share::of_percent(percent);
            let step = u64::MAX / 100_000;
            (0..100_000)
                .filter(|position| share.takes(position * step + step / 2))
                .count()
        };
        assert_eq!(selected(0.0), 0);
        assert_eq!(selected(100.0), 100_000);
        assert_eq!(selected(12.5), 12_500);
        assert_eq!(selected(0.001), 1);
        assert!(Share::of_percent(100.0).takes(u64::MAX));
        assert!(!Share::of_percent(0.0).takes(0));
    }
}
