//! The Via field, RFC 9110 7.6.3: each proxy on the way leaves its name and the version it was spoken to in.

use http::{HeaderValue, Version};

/// What this proxy adds to Via, made once.
#[derive(Debug)]
pub(in crate::proxy) struct Via([HeaderValue; 3]);

impl Via {
    /// For a proxy of this name, a token.
    pub(in crate::proxy) fn new(name: &str) -> Self {
        Via(["1.0", "1.1", "2.0"].map(|version| {
            HeaderValue::from_str(&format!("{version} {name}"))
                .expect("a token is a valid field value")
        }))
    }

    /// The entry for a message that came in this version.
    pub(super) fn of(&self, version: Version) -> HeaderValue {
        let [old, usual, new] = &self.0;
        match version {
            Version::HTTP_2 => new,
            Version::HTTP_11 => usual,
            _ => old,
        }
        .clone()
    }
}
