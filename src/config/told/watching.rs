//! Whatever watches requests: the access log and traces.

use serde_json::{Map, Value, json};

use crate::config::{AccessLog, LogFormat, LogTarget, Otlp, Sample, Share, Tracing};

use super::shown;

pub(super) fn access_log(said: &AccessLog) -> Value {
    let AccessLog {
        target,
        format,
        samples,
        buffer,
    } = said;
    let path = match target {
        LogTarget::Stdout => "-".into(),
        LogTarget::File(path) => path.to_string_lossy(),
    };
    let format = match format {
        LogFormat::Json => "json",
        LogFormat::Combined => "combined",
    };
    json!({
        "path": path,
        "format": format,
        "sample": Vec::from_iter(samples.iter().map(sample)),
        "buffer": buffer,
    })
}

fn sample(said: &Sample) -> Value {
    let Sample { statuses, share } = said;
    let statuses = statuses.iter().map(|(from, to)| format!("{from}-{to}"));
    json!({ "statuses": Vec::from_iter(statuses), "share": self::share(*share) })
}

pub(super) fn tracing(said: &Tracing) -> Value {
    let Tracing {
        sample,
        trust_clients,
        otlp,
    } = said;
    json!({
        "sample": share(*sample),
        "trust_clients": trust_clients,
        "otlp": otlp.as_ref().map(self::otlp),
    })
}

fn otlp(said: &Otlp) -> Value {
    let Otlp {
        endpoint,
        headers,
        service,
        timeout,
        interval,
        queue,
    } = said;
    // Their values may be secret.
    let headers = headers
        .iter()
        .map(|(name, _)| (name.to_string(), Value::Null));
    json!({
        "endpoint": endpoint.to_string(),
        "headers": Map::from_iter(headers),
        "service": service,
        "timeout": shown(*timeout),
        "interval": shown(*interval),
        "queue": queue,
    })
}

fn share(said: Share) -> String {
    format!("{}%", f64::from(said.millionths()) / 1e4)
}
