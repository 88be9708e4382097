//! Why a change was not shared.

use std::fmt;

/// Why a change was not shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublishError {
    /// Another member was faster.
    Conflict,
    /// etcd cannot be reached or refuses; nothing was changed.
    Refused(String),
    /// It may have been shared.
    Unknown(String),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishError::Conflict => {
                f.write_str("another member changed the same pool at the same time; try again")
            }
            PublishError::Refused(reason) => write!(
                f,
                "the cluster shares changes through etcd, which does not take this one; nothing was changed: {reason}"
            ),
            PublishError::Unknown(reason) => write!(
                f,
                "it is not known whether etcd has taken the change; if so, it takes effect as soon as etcd can be read: {reason}"
            ),
        }
    }
}
