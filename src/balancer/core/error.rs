//! What can go wrong in the library.

use std::error::Error;
use std::fmt;

use super::host::{HostId, MAX_WEIGHT};

/// An error of a balancer or of the factory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BalancerError {
    /// A host of this identity is a member already.
    AlreadyAdded(HostId),
    /// No host of this identity is a member.
    UnknownHost(HostId),
    /// No member has a weight above 0.
    NoHosts,
    /// Every host that could have been chosen runs as many requests as it may
    /// ([`Host::with_max_in_flight`](super::Host::with_max_in_flight)).
    Busy,
    /// No algorithm has this name.
    UnknownAlgorithm {
        /// The name that was asked for.
        name: String,
        /// The names that exist, in the order of the registry.
        known: Vec<&'static str>,
    },
    /// The algorithm has no option of this name.
    UnknownOption {
        /// The algorithm's name.
        algorithm: &'static str,
        /// The option that was given.
        option: String,
        /// The options that the algorithm has.
        known: Vec<&'static str>,
    },
    /// An option's value is not one that the algorithm takes.
    InvalidOption {
        /// The option's name.
        option: String,
        /// The value that was given.
        value: String,
        /// What would have been right.
        expected: String,
    },
    /// A weight above [`MAX_WEIGHT`].
    WeightOutOfRange {
        /// The host that was to have it.
        id: HostId,
        /// The weight that was given.
        weight: u32,
    },
}

impl fmt::Display for BalancerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BalancerError::AlreadyAdded(id) => write!(f, "host `{id}` is a member already"),
            BalancerError::UnknownHost(id) => write!(f, "host `{id}` is not a member"),
            BalancerError::NoHosts => f.write_str("no host can take requests"),
            BalancerError::Busy => f.write_str("every host runs as many requests as it may"),
            BalancerError::UnknownAlgorithm { name, known } => {
                write!(
                    f,
                    "unknown algorithm `{name}`; known are {}",
                    known.join(", ")
                )
            }
            BalancerError::UnknownOption {
                algorithm,
                option,
                known,
            } if known.is_empty() => {
                write!(f, "`{algorithm}` has no options, so none called `{option}`")
            }
            BalancerError::UnknownOption {
                algorithm,
                option,
                known,
            } => write!(
                f,
                "`{algorithm}` has no option `{option}`; it has {}",
                known.join(", ")
            ),
            BalancerError::InvalidOption {
                option,
                value,
                expected,
            } => write!(f, "`{option}` is `{value}`, expected {expected}"),
            BalancerError::WeightOutOfRange { id, weight } => {
                write!(
                    f,
                    "weight {weight} of host `{id}` is not within 0 to {MAX_WEIGHT}"
                )
            }
        }
    }
}

impl Error for BalancerError {}
