//! Metrics of the sources of hosts, those of the configuration only.

use prometheus::proto::MetricFamily;

use super::HostSourceState;
use super::family::Family;

/// Families with the label `source`, the kind and name of each source. There are none without sources.
pub(super) fn families(sources: &[HostSourceState]) -> [MetricFamily; 4] {
    let mut hosts = Family::gauge(
        "ballast_source_hosts",
        "Hosts of a source by its last good answers.",
        ["source"],
    );
    let mut age = Family::gauge(
        "ballast_source_age_seconds",
        "Time since a source told all of its hosts; absent if it never did.",
        ["source"],
    );
    let mut stale = Family::gauge(
        "ballast_source_stale",
        "1 if the hosts of a source are those that an earlier process knew and it has not answered since, else 0.",
        ["source"],
    );
    let mut answers = Family::counter(
        "ballast_source_answers_total",
        "Answers of a source, by outcome: `good` with all of its hosts, `failed` without an answer, empty or incomplete.",
        ["source", "outcome"],
    );
    for state in sources {
        let source = state.source.as_str();
        hosts.put([source], state.hosts as f64);
        if let Some(passed) = state.age {
            age.put([source], passed.as_secs_f64());
        }
        stale.put([source], f64::from(u8::from(state.is_stale)));
        answers.put([source, "good"], state.good_answers as f64);
        answers.put([source, "failed"], state.failed_answers as f64);
    }
    [hosts.into(), age.into(), stale.into(), answers.into()]
}
