//! Permissions of a file, in octal.

use std::fmt;
use std::str::FromStr;

use serde_json::json;

use super::hints::quote;
use super::schema::{Scalar, scalar};

/// The permissions of a file: three octal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(u32);

impl Default for FileMode {
    /// The owner and the group may read and write.
    fn default() -> Self {
        FileMode(0o660)
    }
}

impl FileMode {
    /// The bits, as chmod(2) takes them.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

pub(super) fn file_mode() -> Scalar<FileMode> {
    let dump = |mode: &FileMode| json!(mode.to_string());
    scalar("permissions in octal", FileMode::from_str, dump)
}

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let digits = digits.strip_prefix('0').unwrap_or(digits);
        let is_octal =
            digits.len() == 3 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let bits = u32::from_str_radix(digits, 8).ok().filter(|_| is_octal);
        bits.map(FileMode)
            .ok_or_else(|| format!("{} is not three octal digits, as in `0660`", quote(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_three_octal_digits() {
        for text in ["0660", "660", "0o660"] {
            assert_eq!(text.parse().map(FileMode::bits), Ok(0o660), "{text}");
        }
        for text in ["", "0", "66", "0680", "1777", "rw-", "+660"] {
            assert!(text.parse::<FileMode>().is_err(), "{text}");
        }
        assert_eq!(FileMode(0o60).to_string(), "0060");
    }
}
