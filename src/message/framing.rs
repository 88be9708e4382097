//! Message framing: Content-Length and Transfer-Encoding, and how list values are split.

/// The Content-Length of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentLength {
    /// No Content-Length field.
    Absent,
    /// One field with one number in its shortest form.
    Canonical(u64),
    /// One number that is repeated or has leading zeros. It must be forwarded in its shortest form.
    NonCanonical(u64),
    /// Anything else.
    Invalid,
}

/// Parses the values of Content-Length. All fields and all list elements must be the same number, RFC 9110 8.6.
pub(crate) fn content_length<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> ContentLength {
    let mut values = values.into_iter();
    let Some(first) = values.next() else {
        return ContentLength::Absent;
    };
    let second = values.next();
    if second.is_none()
        && let Some(number) = number(first)
    {
        let is_shortest = first == b"0" || !first.starts_with(b"0");
        return if is_shortest {
            ContentLength::Canonical(number)
        } else {
            ContentLength::NonCanonical(number)
        };
    }
    let all = std::iter::once(first).chain(second).chain(values);
    let mut numbers = all
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(|part| number(trim(part)));
    match numbers.next().flatten() {
        Some(number) if numbers.all(|other| other == Some(number)) => {
            ContentLength::NonCanonical(number)
        }
        _ => ContentLength::Invalid,
    }
}

/// Parses a number that consists of digits only. A number above `i64::MAX` is refused: it is no length but an attempt
/// at an overflow, here or at the host.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let number = text.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })?;
    (number <= i64::MAX as u64).then_some(number)
}

/// The Transfer-Encoding of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransferCoding {
    /// No Transfer-Encoding field.
    Absent,
    /// Transfer-Encoding is `chunked` and nothing else.
    Chunked,
    /// A coding that is not supported, or one that is spelled unusually.
    Unknown,
}

/// Parses the values of Transfer-Encoding.
pub(crate) fn transfer_coding<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> TransferCoding {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (None, _) => TransferCoding::Absent,
        (Some(one), None) if one.eq_ignore_ascii_case(b"chunked") => TransferCoding::Chunked,
        _ => TransferCoding::Unknown,
    }
}

/// The elements of a comma-separated list, without surrounding white space and without empty elements, RFC 9110 5.6.1.
pub(crate) fn list<'a>(
    values: impl IntoIterator<Item = &'a [u8]>,
) -> impl Iterator<Item = &'a [u8]> {
    let values = values.into_iter();
    values
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(trim)
        .filter(|part| !part.is_empty())
}

/// Whether a comma-separated list contains `option`, ignoring case.
pub(crate) fn has_option<'a>(values: impl IntoIterator<Item = &'a [u8]>, option: &[u8]) -> bool {
    list(values).any(|element| element.eq_ignore_ascii_case(option))
}

/// Removes the white space that RFC 9110 5.6.3 allows around a value. Other control characters stay.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The size of the fields on the wire.
pub(crate) fn wire_size<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> usize {
    // A colon, a space, CR and LF.
    const OVERHEAD: usize = 4;
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| name.len() + value.len() + OVERHEAD)
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_is_one_number_even_if_repeated() {
        let cases: &[(&[&[u8]], ContentLength)] = &[
            (&[], ContentLength::Absent),
            (&[b"0"], ContentLength::Canonical(0)),
            (&[b"5"], ContentLength::Canonical(5)),
            (
                &[b"9223372036854775807"],
                ContentLength::Canonical(9_223_372_036_854_775_807),
            ),
            (&[b"00005"], ContentLength::NonCanonical(5)),
            (&[b"00"], ContentLength::NonCanonical(0)),
            (&[b"5", b"5"], ContentLength::NonCanonical(5)),
            (&[b"5, 5"], ContentLength::NonCanonical(5)),
            (&[b"5,\t5 ", b"05"], ContentLength::NonCanonical(5)),
            (&[b"5", b"6"], ContentLength::Invalid),
            (&[b"5, 6"], ContentLength::Invalid),
            (&[b"5,"], ContentLength::Invalid),
            (&[b",5"], ContentLength::Invalid),
            (&[b""], ContentLength::Invalid),
            (&[b"", b"5"], ContentLength::Invalid),
            (&[b"5", b""], ContentLength::Invalid),
            (&[b"+5"], ContentLength::Invalid),
            (&[b"-5"], ContentLength::Invalid),
            (&[b"0x5"], ContentLength::Invalid),
            (&[b"5 5"], ContentLength::Invalid),
            (&[b"5.0"], ContentLength::Invalid),
            (&[b"5e1"], ContentLength::Invalid),
            (&[b"1_000"], ContentLength::Invalid),
            (&[b"\xb2"], ContentLength::Invalid),
            (&[b"9223372036854775808"], ContentLength::Invalid),
            (&[b"18446744073709551616"], ContentLength::Invalid),
            (&[b"18446744073709551621"], ContentLength::Invalid),
        ];
        for (values, expected) in cases {
            let values = values.iter().copied();
            assert_eq!(content_length(values.clone()), *expected, "{values:?}");
        }
    }

    #[test]
    fn chunked_is_the_only_known_coding() {
        let cases: &[(&[&[u8]], TransferCoding)] = &[
            (&[], TransferCoding::Absent),
            (&[b"chunked"], TransferCoding::Chunked),
            (&[b"Chunked"], TransferCoding::Chunked),
            (&[b"gzip, chunked"], TransferCoding::Unknown),
            (&[b"gzip", b"chunked"], TransferCoding::Unknown),
            (&[b"chunked", b"chunked"], TransferCoding::Unknown),
            (&[b"chunked, chunked"], TransferCoding::Unknown),
            (&[b"identity"], TransferCoding::Unknown),
            (&[b"chunked;q=1"], TransferCoding::Unknown),
            (&[b", chunked"], TransferCoding::Unknown),
            (&[b"\"chunked\""], TransferCoding::Unknown),
            (&[b""], TransferCoding::Unknown),
        ];
        for (values, expected) in cases {
            assert_eq!(
                transfer_coding(values.iter().copied()),
                *expected,
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_list_spans_all_values() {
        let parts = |values: &[&'static str]| {
            let values = values.iter().map(|value| value.as_bytes());
            Vec::from_iter(list(values).map(|part| String::from_utf8_lossy(part).into_owned()))
        };
        assert_eq!(parts(&["a, b", " , c,,\td ", ""]), ["a", "b", "c", "d"]);
        assert!(parts(&["", ","]).is_empty());
    }

    #[test]
    fn a_line_has_four_bytes_more_than_name_and_value() {
        let line = "Name: value\r\n";
        assert_eq!(wire_size([(&b"Name"[..], &b"value"[..])]), line.len());
    }

    #[test]
    fn only_spaces_and_tabs_are_trimmed() {
        assert_eq!(trim(b" \ta b\t "), b"a b");
        assert_eq!(trim(b" "), b"");
        assert_eq!(trim(b"\x0bx\x0c"), b"\x0bx\x0c");
    }

    proptest! {
        #[test]
        fn only_decimal_numbers_are_read(number in any::<u64>(), text in ".{0,8}") {
            let shown = number.to_string();
            let read = super::number(shown.as_bytes());
            prop_assert_eq!(read, i64::try_from(number).is_ok().then_some(number));
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            prop_assert_eq!(super::number(text.as_bytes()).is_some(), digits);
        }
    }
}
