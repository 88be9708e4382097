//! A cluster as an operator sees it.

use serde::{Deserialize, Serialize};

use super::view::ClusterMember;
use crate::timestamp::Timestamp;

/// Whether etcd is followed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Connection {
    pub(super) since: Timestamp,
    /// `None`: it is.
    pub(super) failure: Option<String>,
}

/// The cluster as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's name.
    pub name: String,
    /// The name of this member.
    pub member: String,
    /// Whether etcd is followed; without it changes are refused, and everything else goes on.
    pub connected: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// Why etcd is not followed.
    pub last_error: Option<String>,
    /// The number of members that the limits are divided by.
    pub shares: u32,
    /// By how much the checks of hosts are less frequent than the configuration says.
    pub check_stretch: u32,
    /// The limits that are divided.
    pub limits: Vec<LimitShare>,
    /// The live members, as far as this one knows.
    pub members: Vec<ClusterMember>,
}

/// A limit that the members divide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitShare {
    /// Its key in the configuration.
    pub key: String,
    /// What the configuration says.
    pub whole: String,
    /// The share of this member, rounded up.
    pub share: String,
}
