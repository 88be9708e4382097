//! Why a request got its host.

use std::fmt;

/// Why a request got its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The balancer chose it among the usable hosts.
    Balanced,
    /// The client's cookie names it.
    Sticky,
    /// It was ejected, and is to prove itself with this request.
    Probe,
    /// The balancer chose it among the backups, as no other host is usable.
    Backup,
    /// It is draining, and nobody else is left.
    Draining,
    /// It is ejected, and whoever is not has failed the request.
    Ejected,
    /// No host is usable, and any is tried (`when_all_down: try_all`).
    AnyHost,
}

impl Why {
    /// A short name.
    pub fn code(self) -> &'static str {
        match self {
            Why::Balanced => "balanced",
            Why::Sticky => "sticky",
            Why::Probe => "probe",
            Why::Backup => "backup",
            Why::Draining => "draining",
            Why::Ejected => "ejected",
            Why::AnyHost => "any_host",
        }
    }
}

/// A line for a person.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Balanced => "the choice of the algorithm",
            Why::Sticky => "the client's cookie names it",
            Why::Probe => "ejected, and to prove itself with this request",
            Why::Backup => "the choice among the backups, as no other host is usable",
            Why::Draining => "draining, but nobody else is left",
            Why::Ejected => "ejected, but whoever is not has failed this request",
            Why::AnyHost => "no host is usable, and any is tried",
        })
    }
}
