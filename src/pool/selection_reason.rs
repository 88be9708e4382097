//! Why a request got its host.

use std::fmt;

/// Why a request got its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectionReason {
    /// The balancer picked it among the usable hosts.
    Balanced,
    /// The client's cookie names it.
    Sticky,
    /// Its ejection is over, and this request probes it.
    Probe,
    /// The balancer picked it among the backups: no primary host is usable.
    Backup,
    /// It is draining, and no other host is usable.
    Draining,
    /// It is ejected, but every other host has failed this request.
    Ejected,
    /// No host is usable, so all are tried (`when_all_down: try_all`).
    AnyHost,
}

impl SelectionReason {
    /// A short name, in logs and JSON.
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
            SelectionReason::Probe => "its ejection is over, and this request probes it",
            SelectionReason::Backup => "the choice among the backups: no primary host is usable",
            SelectionReason::Draining => "draining, but no other host is usable",
            SelectionReason::Ejected => "ejected, but every other host has failed this request",
            SelectionReason::AnyHost => "no host is usable, so all are tried",
        })
    }
}
