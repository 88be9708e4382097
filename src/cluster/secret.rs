//! The secret that the members of a cluster share.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A secret of fewer bytes is not one of ours.
const MIN_BYTES: usize = 16;

/// Bytes of a secret that a member makes.
const BYTES: usize = 32;

/// What keys of cookies and session tickets are derived from. It does not show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClusterSecret(Vec<u8>);

impl ClusterSecret {
    /// A new one.
    pub(super) fn random() -> Self {
        ClusterSecret(rand::random::<[u8; BYTES]>().to_vec())
    }

    /// Reads what [`encode`](Self::encode) has written; `None`: it is something else.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let secret = BASE64_STANDARD.decode(text).ok()?;
        (secret.len() >= MIN_BYTES).then_some(ClusterSecret(secret))
    }

    /// As it stands in etcd and in files.
    pub(super) fn encode(&self) -> String {
        BASE64_STANDARD.encode(&self.0)
    }

    /// Its bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

impl Serialize for ClusterSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for ClusterSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        ClusterSecret::decode(text.as_bytes()).ok_or_else(|| D::Error::custom("not a secret"))
    }
}
