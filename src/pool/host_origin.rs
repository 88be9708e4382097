//! Where a host comes from, and what its source says about it. No request depends on it.

use std::collections::BTreeMap;

use crate::config;

/// [`HostOrigin::source`] of a host that the file names.
const CONFIGURATION: &str = "configuration";

/// [`HostOrigin::source`] of a host that an operator has added.
const OPERATOR: &str = "operator";

/// Where a host comes from.
#[derive(Debug, Clone)]
pub(super) struct HostOrigin {
    /// `configuration`, `operator`, or the kind and name of its source: `dns app.internal`.
    pub(super) source: String,
    /// The name by which its source knows it.
    pub(super) server_name: Option<String>,
    /// What its source says about it.
    pub(super) labels: BTreeMap<String, String>,
    /// Whether its source does not name it any more.
    pub(super) is_leaving: bool,
}

impl HostOrigin {
    pub(super) fn of(host: &config::Host) -> Self {
        HostOrigin {
            source: match (&host.source, host.file_weight) {
                (Some(source), _) => source.to_string(),
                (None, Some(_)) => CONFIGURATION.to_owned(),
                (None, None) => OPERATOR.to_owned(),
            },
            server_name: host.server_name.clone(),
            labels: host.labels.clone(),
            is_leaving: host.is_leaving,
        }
    }

    /// Whether a host with this [`source`](Self::source) is from neither the file nor an operator. Earlier versions report an
    /// empty one.
    pub(super) fn is_found(source: &str) -> bool {
        !["", CONFIGURATION, OPERATOR].contains(&source)
    }
}
