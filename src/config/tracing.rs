//! `tracing`: which requests are traced, and who is told of them.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

/// `tracing`: the requests' places in distributed traces, as W3C Trace Context has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracing {
    /// How many of the traces are recorded that begin here or that an untrusted client brings.
    pub sample: Share,
    /// Whether a trace is recorded if any client says so, not only one of `trusted_proxies`.
    pub trust_clients: bool,
    /// Who is told of the recorded ones; `None`: nobody.
    pub otlp: Option<Otlp>,
}

/// `tracing.otlp`: a collector of traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Fields of each request to it. Their values may be secret, and their `Debug` does not tell them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What this proxy is called there.
    pub service: String,
    /// For one request to it, from the resolution of its name to the end of its answer.
    pub timeout: Duration,
    /// How long a request that has ended waits at most for others to be told of with it.
    pub interval: Duration,
    /// Requests that wait to be told of; what comes beyond it is dropped. At least 1.
    pub queue: usize,
}

/// A URL of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is asked through TLS.
    pub tls: bool,
    /// Its name, or its address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The path to which traces are sent.
    pub path: String,
}

impl Endpoint {
    /// Host and port, as they stand in a Host field.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// A share of many, as exact as a millionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    millionths: u32,
}

impl Share {
    /// All of them, in millionths.
    const WHOLE: u32 = 1_000_000;

    /// So many of a hundred; less than 0 is none, more than 100 is all.
    pub fn of_percent(percent: f64) -> Self {
        let millionths = percent.clamp(0.0, 100.0) / 100.0 * f64::from(Share::WHOLE);
        Share {
            millionths: millionths.round() as u32,
        }
    }

    /// The share in millionths.
    pub fn millionths(self) -> u32 {
        self.millionths
    }

    /// Whether something that has drawn this number is one of the share.
    pub fn takes(self, drawn: u64) -> bool {
        let place = (u128::from(drawn) * u128::from(Share::WHOLE)) >> 64;
        place < u128::from(self.millionths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_its_part() {
        let taken = |percent| {
            let share = Share::of_percent(percent);
            let step = u64::MAX / 100_000;
            (0..100_000)
                .filter(|place| share.takes(place * step + step / 2))
                .count()
        };
        assert_eq!(taken(0.0), 0);
        assert_eq!(taken(100.0), 100_000);
        assert_eq!(taken(12.5), 12_500);
        assert_eq!(taken(0.001), 1);
        assert!(Share::of_percent(100.0).takes(u64::MAX));
        assert!(!Share::of_percent(0.0).takes(0));
    }

    #[test]
    fn an_address_of_ipv6_has_its_brackets() {
        let endpoint = Endpoint {
            tls: true,
            host: "::1".to_owned(),
            port: 4318,
            path: "/v1/traces".to_owned(),
        };
        assert_eq!(endpoint.to_string(), "https://[::1]:4318/v1/traces");
    }
}
