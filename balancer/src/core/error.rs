//! The errors of the balancer library.

use std::error::Error;
use std::fmt;

use super::host::{HostId, MAX_WEIGHT};

/// An error of a balancer or of the factory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BalancerError {
    /// A host of this identity is already a member.
    AlreadyAdded(HostId),
    /// No host of this identity is a member.
    UnknownHost(HostId),
    /// No member has a weight above 0.
    NoHosts,
    /// Every host that could have been picked is at its limit
    /// ([`Host::with_max_in_flight`](super::Host::with_max_in_flight)).
    Busy,
    /// No algorithm has this name.
    UnknownAlgorithm {
        /// The requested name.
        name: String,
        /// The known names, in the order of the registry.
        known: Vec<&'static str>,
    },
    /// The algorithm has no option of this name.
    UnknownOption {
        /// The algorithm's name.
        algorithm: &'static str,
        /// The unknown option.
        option: String,
        /// The algorithm's options.
        known: Vec<&'static str>,
    },
    /// An option has an invalid value.
    InvalidOption {
        /// The option's name.
        option: String,
        /// The given value.
        value: String,
        /// A description of valid values.
        expected: String,
    },
    /// A weight above [`MAX_WEIGHT`].
    WeightOutOfRange {
        /// The host.
        id: HostId,
        /// The given weight.
        weight: u32,
    },
}

impl fmt::Display for BalancerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BalancerError::AlreadyAdded(id) => write!(f, "host `{id}` is a member already"),
            BalancerError::UnknownHost(id) => write!(f, "host `{id}` is not a member"),
            BalancerError::NoHosts => f.write_str("no host can take requests"),
            BalancerError::Busy => f.write_str("every host is at its limit of requests in flight"),
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
                write!(
                    f,
                    "`{algorithm}` has no option `{option}`; it has no options"
                )
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
