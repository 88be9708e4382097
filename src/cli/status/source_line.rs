//! The line of a source of hosts.

use super::view::format_duration;
use crate::admin::SourceStatus;
use crate::cli::terminal::{Style, StyledLine};

/// What a source has told, when, and what is wrong with it.
pub(super) fn source_line(source: &SourceStatus) -> StyledLine {
    let line = StyledLine::new(format!("source {}: ", source.source), Style::Plain);
    let hosts = match source.hosts {
        0 => "no hosts yet".to_owned(),
        1 => "1 host".to_owned(),
        count => format!("{count} hosts"),
    };
    let line = match source.hosts {
        0 => line.and(hosts, Style::Bad),
        _ => line.and(hosts, Style::Plain),
    };
    let line = match source.age_seconds {
        Some(age) => line.and(
            format!(", confirmed {} ago", format_duration(age)),
            Style::Plain,
        ),
        None => line,
    };
    let line = match source.stale {
        true => line.and(" (stale: by an earlier process)", Style::Passing),
        false => line,
    };
    let line = match source.ttl_seconds {
        // What is due is being asked for.
        Some(left) if left >= 1.0 => line.and(
            format!(", asked again in {}", format_duration(left)),
            Style::Plain,
        ),
        _ => line,
    };
    match &source.error {
        Some(error) => line.and(format!("; {error}"), Style::Bad),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::SourceAnswers;

    #[test]
    fn a_line_says_what_is_known() {
        let source = SourceStatus {
            source: "dns app.internal".to_owned(),
            kind: "dns".to_owned(),
            name: "app.internal".to_owned(),
            hosts: 3,
            confirmed: None,
            age_seconds: Some(72.0),
            stale: false,
            error: None,
            ttl_seconds: Some(18.4),
            answers: SourceAnswers { good: 1, failed: 0 },
        };
        let shown = |source: &SourceStatus| source_line(source).text();
        assert_eq!(
            shown(&source),
            "source dns app.internal: 3 hosts, confirmed 1m ago, asked again in 18s"
        );
        let old = SourceStatus {
            hosts: 1,
            stale: true,
            ttl_seconds: None,
            error: Some("it timed out".to_owned()),
            ..source.clone()
        };
        assert_eq!(
            shown(&old),
            "source dns app.internal: 1 host, confirmed 1m ago (stale: by an earlier process); it timed out"
        );
        let none = SourceStatus {
            hosts: 0,
            age_seconds: None,
            ttl_seconds: None,
            ..source
        };
        assert_eq!(shown(&none), "source dns app.internal: no hosts yet");
    }
}
