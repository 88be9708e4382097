//! Says how the running process differs from what is on disk, in lines for a person.

use std::path::Path;

use crate::admin::{BinaryState, Drift, FileState, OperatorChange};
use crate::timestamp::Timestamp;

use super::view::format_duration;

/// The changes by operators that are listed; the others are counted.
const MAX_CHANGES: usize = 10;

/// The lines about a process that was started with `file`; none if nothing differs.
pub(in crate::cli) fn lines(file: Option<&str>, drift: &Drift, now: Timestamp) -> Vec<String> {
    let name = file.and_then(|file| Path::new(file).file_name());
    let file = name.map_or("the configuration".into(), |name| name.to_string_lossy());
    let mut lines = Vec::new();
    match drift.binary {
        BinaryState::Running => {}
        BinaryState::Replaced => {
            lines.push("another binary is on disk: ballast reload --binary".to_owned());
        }
        BinaryState::Missing => {
            lines.push("the binary on disk is missing, so a handover would fail".to_owned());
        }
    }
    match drift.file {
        FileState::Loaded => {}
        FileState::Edited => {
            lines.push(format!(
                "{file} was edited after the last reload: ballast reload"
            ));
        }
        FileState::Unreadable => {
            lines.push(format!("{file} cannot be read, so a reload would fail"));
        }
    }
    let changes = &drift.operator_changes;
    if !changes.is_empty() {
        lines.push(format!("differs from {file} by changes of operators:"));
        let shown = changes.iter().take(MAX_CHANGES);
        lines.extend(shown.map(|change| format!("  {}", line(change, now))));
        if let Some(more @ 1..) = changes.len().checked_sub(MAX_CHANGES) {
            lines.push(format!("  and {more} more"));
        }
    }
    lines
}

fn line(change: &OperatorChange, now: Timestamp) -> String {
    let mut line = change.text.clone();
    if let Some(at) = change.at {
        let ago = format_duration(now.unix_seconds() - at.unix_seconds());
        line.push_str(&format!(", {ago} ago"));
    }
    if let Some(member) = &change.member {
        line.push_str(&format!(
            " (shared by the cluster, last changed on {member})"
        ));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::OperatorChangeKind;

    #[test]
    fn a_process_without_drift_has_no_lines() {
        let now = Timestamp::from_unix_seconds(9);
        assert_eq!(lines(Some("/etc/lb.yaml"), &Drift::default(), now), [""; 0]);
    }

    #[test]
    fn many_changes_are_counted() {
        let change = |number: u32| OperatorChange {
            kind: OperatorChangeKind::HostRemoved,
            pool: Some("web".to_owned()),
            host: Some(format!("{number}:1")),
            text: format!("host {number}:1 was removed from web"),
            at: (number == 0).then(|| Timestamp::from_unix_seconds(0)),
            member: (number == 1).then(|| "lb2".to_owned()),
        };
        let drift = Drift {
            operator_changes: (0..12).map(change).collect(),
            file: FileState::Edited,
            binary: BinaryState::Replaced,
        };
        let lines = lines(
            Some("/etc/lb.yaml"),
            &drift,
            Timestamp::from_unix_seconds(10_800),
        );
        assert_eq!(lines.len(), 14);
        assert_eq!(
            lines[..5],
            [
                "another binary is on disk: ballast reload --binary",
                "lb.yaml was edited after the last reload: ballast reload",
                "differs from lb.yaml by changes of operators:",
                "  host 0:1 was removed from web, 3h ago",
                "  host 1:1 was removed from web (shared by the cluster, last changed on lb2)",
            ]
        );
        assert_eq!(lines[13], "  and 2 more");
    }
}
