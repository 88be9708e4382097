//! The Via field, RFC 9110 7.6.3: each proxy appends its name and the HTTP version in which it received the message.

use http::Version;

/// The Via entries of this proxy, one for each HTTP version, formatted once.
#[derive(Debug)]
pub(crate) struct Via([String; 3]);

impl Via {
    /// `name` must be a token.
    pub(crate) fn new(name: &str) -> Self {
        Via(["1.0", "1.1", "2.0"].map(|version| format!("{version} {name}")))
    }

    /// The entry for a message received in this version.
    pub(super) fn entry_for(&self, version: Version) -> &[u8] {
        let [old, usual, new] = &self.0;
        match version {
            Version::HTTP_2 => new,
            Version::HTTP_11 => usual,
            _ => old,
        }
        .as_bytes()
    }
}
