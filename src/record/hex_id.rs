//! Random 128-bit ids and their hexadecimal form, for traces and requests.

use crate::thread_random::thread_random;

/// 128 random bits. They are not guessable from outside, but not cryptographically secure: an observer of many values
/// can predict the next.
pub(crate) fn random_u128() -> u128 {
    u128::from(thread_random()) << 64 | u128::from(thread_random())
}

/// The 32 lower-case hexadecimal digits of a number.
pub(crate) fn hex_u128(number: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (digits, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 0xf)];
    }
    text
}

/// Parses exactly `digits` lower-case hexadecimal digits, at most 32.
pub(super) fn parse_hex(text: &[u8], digits: usize) -> Option<u128> {
    if text.len() != digits {
        return None;
    }
    text.iter().try_fold(0, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_hexadecimal() {
        let mut number = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128;
        for _ in 0..200 {
            assert_eq!(hex_u128(number), format!("{number:032x}").as_bytes());
            number = number.rotate_left(3) ^ (number << 7);
        }
    }
}
