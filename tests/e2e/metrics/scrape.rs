//! Parses the output of `/metrics`.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};

use crate::support::{Client, SOON, wait_until};

/// One sample: a name, its labels and a value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// The samples of one scrape.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) text: String,
    samples: Vec<Sample>,
}

impl Scrape {
    #[track_caller]
    pub(crate) fn of(admin: SocketAddr) -> Self {
        // The process serves before its admin listener does.
        wait_until(SOON, "the admin listener is open", || {
            TcpStream::connect(admin).is_ok()
        });
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let response = Client::connect(admin).request(request);
        let response = response.expect("a complete response");
        assert_eq!(response.status, 200);
        let kind = response.head.get("content-type");
        assert_eq!(kind, Some("text/plain; version=0.0.4"));
        let text = response.text();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let pairs = labels.trim_end_matches('}').split("\",");
            let pairs = pairs.filter_map(|pair| pair.split_once("=\""));
            Sample {
                name: name.to_owned(),
                labels: pairs
                    .map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()))
                    .collect(),
                value: value.parse().expect("a number"),
            }
        });
        Scrape {
            samples: samples.collect(),
            text,
        }
    }

    /// The sum of a name's samples that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &Sample, (label, value): &(&str, &str)| {
            let mut own = sample.labels.iter();
            own.any(|(name, own)| name == label && own == value)
        };
        let samples = self.samples.iter().filter(|sample| sample.name == name);
        let samples = samples.filter(|sample| labels.iter().all(|label| has(sample, label)));
        samples.map(|sample| sample.value).sum()
    }

    /// All requests that have ended.
    pub(super) fn requests(&self) -> f64 {
        self.sum("ballast_requests_total", &[])
    }

    /// All names, including the parts of histograms.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let names = self.samples.iter().map(|sample| sample.name.as_str());
        names.collect()
    }

    /// The number of samples.
    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    /// The values of a label.
    pub(super) fn values(&self, label: &str) -> BTreeSet<&str> {
        let labels = self.samples.iter().flat_map(|sample| &sample.labels);
        let values = labels.filter(|(name, _)| name == label);
        values.map(|(_, value)| value.as_str()).collect()
    }
}

/// The samples once `requests` requests have ended: a client gets its response before its request is counted.
#[track_caller]
pub(super) fn after(admin: SocketAddr, requests: u64) -> Scrape {
    let mut scrape = Scrape::of(admin);
    wait_until(SOON, &format!("{requests} requests are counted"), || {
        scrape = Scrape::of(admin);
        scrape.requests() >= requests as f64
    });
    assert_eq!(scrape.requests(), requests as f64);
    scrape
}
