//! The Via field, RFC 9110 7.6.3: each proxy on the way leaves its name and the version it was spoken to in.

use http::Version;

/// What this proxy adds to Via, made once.
#[derive(Debug)]
pub(crate) struct Via([String; 3]);

impl Via {
    /// For a proxy of this name, a token.
    pub(crate) fn new(name: &str) -> Self {
        Via(["1.0", "1.1", "2.0"].map(|version| format!("{version} {name}")))
    }

    /// The entry for a message that came in this version.
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
