//! Why a request got its host.

use std::fmt;

/// Why a request got its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectionReason {
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

impl SelectionReason {
    /// A short name.
    pub fn code(self) -> &'static str {
        match self {
            SelectionReason::Balanced => "balanced",
            SelectionReason::Sticky => "sticky",
            SelectionReason::Probe => "probe",
            SelectionReason::Backup => "backup",
            SelectionReason::Draining => "draining",
            SelectionReason::Ejected => "ejected",
            SelectionReason::AnyHost => "any_host",
        }
    }
}

/// A line for a person.
impl fmt::Display for SelectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SelectionReason::Balanced => "the choice of the algorithm",
            SelectionReason::Sticky => "the client's cookie names it",
            SelectionReason::Probe => "ejected, and to prove itself with this request",
            SelectionReason::Backup => "the choice among the backups, as no other host is usable",
            SelectionReason::Draining => "draining, but nobody else is left",
            SelectionReason::Ejected => "ejected, but whoever is not has failed this request",
            SelectionReason::AnyHost => "no host is usable, and any is tried",
        })
    }
}
