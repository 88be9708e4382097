//! Formats the members of a cluster as lines for a terminal.

use crate::cli::terminal::{Style, StyledLine};
use crate::cluster::{ClusterMember, ClusterStatus, LimitShare};
use crate::timestamp::Timestamp;

use super::view::format_duration;

/// Characters of a digest that tell configurations apart.
const SHOWN_DIGEST: usize = 12;

/// A line for the cluster, then a table of its members and one of the limits that they divide.
pub(super) fn lines(status: &ClusterStatus) -> Vec<StyledLine> {
    let now = Timestamp::now();
    let mut lines = vec![title(status, now)];
    let names = status.members.iter().map(|member| member.name.len());
    let width = names.max().unwrap_or(0).max("MEMBER".len());
    lines.push(StyledLine::new(
        format!("{:width$}  VERSION   CONFIG        PID      UP", "MEMBER"),
        Style::Title,
    ));
    let own = status
        .members
        .iter()
        .find(|member| member.name == status.member);
    let rows = status.members.iter().map(|member| {
        let is_other =
            |of: fn(&ClusterMember) -> &str| own.is_some_and(|own| of(own) != of(member));
        // Members that differ from this one stand out.
        let style = |differs| {
            if differs {
                Style::Passing
            } else {
                Style::Plain
            }
        };
        let digest: String = member.record.config.chars().take(SHOWN_DIGEST).collect();
        let up = format_duration(now.unix_seconds() - member.record.started.unix_seconds());
        let this = if member.name == status.member {
            "  (this one)"
        } else {
            ""
        };
        StyledLine::new(format!("{:width$}  ", member.name), Style::Plain)
            .and(
                format!("{:8}  ", member.record.version),
                style(is_other(|member| &member.record.version)),
            )
            .and(
                format!("{digest:12}  "),
                style(is_other(|member| &member.record.config)),
            )
            .and(
                format!("{:<7}  {up}{this}", member.record.pid),
                Style::Plain,
            )
    });
    lines.extend(rows);
    lines.extend(shares(status));
    lines
}

/// What is divided, and the share of this member.
fn shares(status: &ClusterStatus) -> Vec<StyledLine> {
    let widest = |title: &str, text: fn(&LimitShare) -> &str| {
        let texts = status.limits.iter().map(text);
        texts.map(str::len).max().unwrap_or(0).max(title.len())
    };
    let key = widest("LIMIT", |limit| &limit.key);
    let whole = widest("WHOLE", |limit| &limit.whole);
    let mut lines = Vec::new();
    if !status.limits.is_empty() {
        let title = format!("{:key$}  {:whole$}  SHARE", "LIMIT", "WHOLE");
        lines.push(StyledLine::new(title, Style::Title));
    }
    lines.extend(status.limits.iter().map(|limit| {
        let LimitShare {
            key: name,
            whole: all,
            share,
        } = limit;
        StyledLine::new(format!("{name:key$}  {all:whole$}  {share}"), Style::Plain)
    }));
    if status.check_stretch > 1 {
        let text = format!(
            "checks of hosts: at {} times the interval in the file, as each member checks them",
            status.check_stretch
        );
        lines.push(StyledLine::new(text, Style::Plain));
    }
    lines
}

/// The cluster and whether etcd is followed.
pub(super) fn title(status: &ClusterStatus, now: Timestamp) -> StyledLine {
    let since = format_duration(now.unix_seconds() - status.since.unix_seconds());
    let members = match status.shares {
        1 => "1 member".to_owned(),
        many => format!("{many} members, each with 1/{many} of the limits"),
    };
    let line = StyledLine::new(format!("cluster {}", status.name), Style::Title)
        .and(format!(" as {}: {members}, ", status.member), Style::Plain);
    match &status.last_error {
        None => line.and(format!("connected for {since}"), Style::Good),
        Some(error) => line.and(
            format!("etcd lost for {since}, changes are refused: {error}"),
            Style::Bad,
        ),
    }
}
