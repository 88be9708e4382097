//! Accept-Encoding: which content codings a client takes, and which it prefers (RFC 9110, 12.5.3).

use crate::config::ContentCoding;
use crate::message::framing::list;

/// A weight in thousandths; 0: not acceptable.
type Weight = u16;

/// What an element of the list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Coding(ContentCoding),
    Identity,
    /// `*`: every coding that is not named.
    Others,
}

impl Subject {
    const COUNT: usize = 5;

    fn index(self) -> usize {
        match self {
            Subject::Coding(ContentCoding::Zstd) => 0,
            Subject::Coding(ContentCoding::Brotli) => 1,
            Subject::Coding(ContentCoding::Gzip) => 2,
            Subject::Identity => 3,
            Subject::Others => 4,
        }
    }
}

/// The coding that a client prefers among `offered`; among equals the first one offered. `None`: the client takes none
/// of them, or would rather have the response as it is. Malformed elements count as nothing, and of contradicting ones
/// the first counts.
pub(super) fn select<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    offered: &[ContentCoding],
) -> Option<ContentCoding> {
    let mut weights = [None; Subject::COUNT];
    for (subject, weight) in list(values).filter_map(parse) {
        weights[subject.index()].get_or_insert(weight);
    }
    let of = |subject: Subject| weights[subject.index()];
    let others = of(Subject::Others).unwrap_or(0);
    let (mut best, mut best_weight) = (None, 0);
    for &coding in offered {
        let weight = of(Subject::Coding(coding)).unwrap_or(others);
        if weight > best_weight {
            (best, best_weight) = (Some(coding), weight);
        }
    }
    best.filter(|_| best_weight >= of(Subject::Identity).unwrap_or(0))
}

/// An element of the list, with its weight. `None`: the proxy does not have the coding, or the element is
/// malformed.
fn parse(element: &[u8]) -> Option<(Subject, Weight)> {
    let mut parts = element.split(|&byte| byte == b';');
    let name = parts.next()?.trim_ascii();
    let weight = match parts.next() {
        None => 1_000,
        Some(parameter) => weight(parameter.trim_ascii())?,
    };
    if parts.next().is_some() {
        return None;
    }
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    let subject = match name {
        b"*" => Subject::Others,
        _ if is("gzip") || is("x-gzip") => Subject::Coding(ContentCoding::Gzip),
        _ if is("br") => Subject::Coding(ContentCoding::Brotli),
        _ if is("zstd") => Subject::Coding(ContentCoding::Zstd),
        _ if is("identity") => Subject::Identity,
        _ => return None,
    };
    Some((subject, weight))
}

/// `q=` and a number from 0 to 1 with up to three digits after the point.
fn weight(parameter: &[u8]) -> Option<Weight> {
    let number = match parameter {
        [b'q' | b'Q', b'=', number @ ..] => number,
        _ => return None,
    };
    let (whole, digits) = match number {
        [whole @ (b'0' | b'1')] => (*whole, &b""[..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] if digits.len() <= 3 => (*whole, digits),
        _ => return None,
    };
    let padded = digits
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(3);
    let thousandths = padded.into_iter().try_fold(0, |sum: Weight, digit| {
        let digit = char::from(digit).to_digit(10)?;
        Some(sum * 10 + Weight::try_from(digit).ok()?)
    })?;
    match whole {
        b'0' => Some(thousandths),
        _ => (thousandths == 0).then_some(1_000),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use ContentCoding::{Brotli, Gzip, Zstd};

    fn selected(values: &[&str]) -> Option<ContentCoding> {
        let values = values.iter().map(|value| value.as_bytes());
        select(values, &[Zstd, Brotli, Gzip])
    }

    #[test]
    fn the_client_prefers_and_the_server_orders_equals() {
        let cases: &[(&[&str], Option<ContentCoding>)] = &[
            (&[], None),
            (&[""], None),
            (&["gzip"], Some(Gzip)),
            (&["x-gzip"], Some(Gzip)),
            (&["GZIP"], Some(Gzip)),
            (&["compress, deflate"], None),
            (&["gzip, deflate, br, zstd"], Some(Zstd)),
            (&["gzip, deflate, br"], Some(Brotli)),
            (&["gzip", "br"], Some(Brotli)),
            (&["gzip;q=0.9, br;q=0.8, zstd;q=0.7"], Some(Gzip)),
            (&["gzip ; q=0.5 , br\t;\tQ=0.501"], Some(Brotli)),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000"], None),
            (&["gzip;q=0.001"], Some(Gzip)),
            (&["*"], Some(Zstd)),
            (&["*;q=0"], None),
            (&["zstd;q=0, *"], Some(Brotli)),
            (&["gzip, *;q=0.1"], Some(Gzip)),
            (&["gzip, *;q=0"], Some(Gzip)),
            (&["identity"], None),
            (&["identity, gzip"], Some(Gzip)),
            (&["identity;q=1, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip;q=1.0"], Some(Gzip)),
            (&["identity;q=0"], None),
            (&["identity;q=0, *"], Some(Zstd)),
            (&["gzip;q=0, gzip"], None),
        ];
        for (values, expected) in cases {
            assert_eq!(selected(values), *expected, "{values:?}");
        }
        let only = |offered: &[ContentCoding]| select([&b"*"[..]].into_iter(), offered);
        assert_eq!(only(&[Gzip, Zstd]), Some(Gzip));
        assert_eq!(only(&[]), None);
    }

    #[test]
    fn malformed_elements_count_as_nothing() {
        for element in [
            "gzip;q=2",
            "gzip;q=1.1",
            "gzip;q=1.001",
            "gzip;q=0.1234",
            "gzip;q=.5",
            "gzip;q=",
            "gzip;q",
            "gzip;",
            "gzip;q=-1",
            "gzip;q=1;q=1",
            "gzip;x=1",
            "gzip;q = 1",
            "g zip",
            "\"gzip\"",
            "gzip;q=0.5x",
            "gzip;q=nan",
        ] {
            assert_eq!(selected(&[element]), None, "{element}");
            let with_another = format!("{element}, br;q=0.1");
            assert_eq!(selected(&[&with_another]), Some(Brotli), "{element}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read(values in proptest::collection::vec(".{0,40}", 0..4)) {
            let values = Vec::from_iter(values.iter().map(String::as_str));
            selected(&values);
        }

        #[test]
        fn weights_order_codings(a in 0_u16..=1_000, b in 0_u16..=1_000) {
            let value = |weight: u16| match weight {
                1_000 => "1".to_owned(),
                weight => format!("0.{weight:03}"),
            };
            let field = format!("gzip;q={}, br;q={}", value(a), value(b));
            let expected = match a.max(b) {
                0 => None,
                _ if a > b => Some(Gzip),
                _ => Some(Brotli),
            };
            prop_assert_eq!(selected(&[&field]), expected);
        }
    }
}
