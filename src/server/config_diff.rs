//! What differs between two configurations, in words, and whether a running process can take it in.

use serde_json::Value as Json;

use crate::config::{Change, ChangeKind, Config};

/// Characters of a value that is shown.
const MAX_VALUE: usize = 60;

/// What differs between two configurations.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ConfigDiff {
    /// One line for each change that a running process can take in.
    pub(super) in_place: Vec<String>,
    /// One line for each that only another process can.
    pub(super) in_new_process: Vec<String>,
}

impl ConfigDiff {
    pub(super) fn between(old: &Config, new: &Config) -> Self {
        let mut changes = ConfigDiff::default();
        for change in old.changes(new) {
            let lines = match change.needs_new_process {
                true => &mut changes.in_new_process,
                false => &mut changes.in_place,
            };
            lines.push(line(&change));
        }
        changes
    }

    /// How a reload takes the changes in: `in-place` or by `handover`; `None`: there are none.
    pub(super) fn way(&self) -> Option<&'static str> {
        match (self.in_new_process.is_empty(), self.in_place.is_empty()) {
            (false, _) => Some("handover"),
            (true, false) => Some("in-place"),
            (true, true) => None,
        }
    }

    /// All lines, those for another process first.
    pub(super) fn into_lines(mut self) -> Vec<String> {
        self.in_new_process.append(&mut self.in_place);
        self.in_new_process
    }
}

fn line(change: &Change) -> String {
    let Change { path, kind, .. } = change;
    match kind {
        ChangeKind::Value { old, new } => match (shown(old), shown(new)) {
            (Some(old), Some(new)) => format!("{path} changed from {old} to {new}"),
            _ => format!("{path} changed"),
        },
        ChangeKind::Content => format!("{path} has new content"),
        ChangeKind::Added => format!("{path} added"),
        ChangeKind::Removed => format!("{path} removed"),
        ChangeKind::Reordered => format!("the order of {path} changed"),
    }
}

/// A value that fits into a line; `None`: it is too long.
fn shown(value: &Json) -> Option<String> {
    let text = match value {
        Json::Null => "nothing".to_owned(),
        Json::String(text) => text.clone(),
        Json::Array(list) => {
            let list = list.iter().map(shown).collect::<Option<Vec<_>>>()?;
            format!("[{}]", list.join(", "))
        }
        Json::Object(_) => return None,
        Json::Bool(_) | Json::Number(_) => value.to_string(),
    };
    (text.chars().count() <= MAX_VALUE).then_some(text)
}

#[cfg(test)]
mod tests;
