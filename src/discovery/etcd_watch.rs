//! Keys in etcd as sources of hosts, followed by a watch.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::answer::{Answer, FoundHost, Others};
use super::clients::Clients;
use super::hosts_file::found;
use crate::config::read_host;
use crate::etcd::{EtcdClient, KeyValue, PrefixSnapshot, PrefixStatus, PrefixWatch};

/// How often it is tried to make a client.
const CLIENT_RETRY: Duration = Duration::from_secs(10);

/// The largest value that is read. A host has some hundred bytes.
const MAX_VALUE: usize = 64 << 10;

/// Keys with a wrong value that are named in a message.
const MAX_NAMED: usize = 3;

/// Bytes of a key that are shown in a message.
const MAX_SHOWN_KEY: usize = 128;

/// Reports the hosts under a prefix until it is cancelled.
pub(super) async fn watch(prefix: &str, clients: &Clients, report: &(dyn Fn(Answer) + Sync)) {
    let client = client(clients, report).await;
    let watch = PrefixWatch::new(client, prefix);
    let mut status = watch.subscribe();
    let tell = async {
        let mut reader = HostReader::default();
        let mut confirmed = None;
        loop {
            let now = status.borrow_and_update().clone();
            if let Some(answer) = reader.answer(&now, &mut confirmed) {
                report(answer);
            }
            if status.changed().await.is_err() {
                // The watch lives as long as this.
                return pending().await;
            }
        }
    };
    let ((), ()) = tokio::join!(watch.run(), tell);
}

async fn client(clients: &Clients, report: &(dyn Fn(Answer) + Sync)) -> EtcdClient {
    loop {
        match clients.etcd().await {
            Ok(client) => return client,
            Err(reason) => report(Answer::Failed(reason)),
        }
        sleep(CLIENT_RETRY).await;
    }
}

/// A value, and the host that it says or what is wrong with it.
type ReadHost = (Arc<KeyValue>, Result<FoundHost, String>);

/// Reads values as hosts, each once: a change of one key among thousands costs little.
#[derive(Debug, Default)]
struct HostReader {
    read: HashMap<Vec<u8>, ReadHost>,
}

impl HostReader {
    /// What a status says. `confirmed` is when the keys of the status before were known to be current.
    fn answer(&mut self, status: &PrefixStatus, confirmed: &mut Option<Instant>) -> Option<Answer> {
        if let Some(failure) = &status.failure {
            return Some(Answer::Failed(failure.clone()));
        }
        let snapshot = status.snapshot.as_ref()?;
        let is_news = status.confirmed != *confirmed;
        *confirmed = status.confirmed;
        is_news.then(|| self.hosts(snapshot))
    }

    fn hosts(&mut self, snapshot: &PrefixSnapshot) -> Answer {
        let keys = &snapshot.keys;
        self.read.retain(|key, _| keys.contains_key(key));
        let (mut hosts, mut wrong, mut count) = (Vec::with_capacity(keys.len()), Vec::new(), 0);
        for (key, value) in keys.iter() {
            match self.host(key, value) {
                Ok(host) => hosts.push(host.clone()),
                Err(reason) => {
                    count += 1;
                    if count <= MAX_NAMED {
                        wrong.push(format!("the value of {} is no host: {reason}", shown(key)));
                    }
                }
            }
        }
        if count == 0 {
            return Answer::Complete { hosts, ttl: None };
        }
        if count > MAX_NAMED {
            wrong.push(format!("and {} more", count - MAX_NAMED));
        }
        Answer::Partial {
            hosts,
            others: Others::Any,
            reason: wrong.join("; "),
            ttl: None,
        }
    }

    fn host(&mut self, key: &[u8], value: &Arc<KeyValue>) -> &Result<FoundHost, String> {
        let read = || (Arc::clone(value), host(&value.value));
        let entry = self.read.entry(key.to_vec()).or_insert_with(read);
        if entry.0 != *value {
            *entry = read();
        }
        &entry.1
    }
}

fn host(value: &[u8]) -> Result<FoundHost, String> {
    if value.len() > MAX_VALUE {
        return Err(format!("it has more than {} KiB", MAX_VALUE >> 10));
    }
    let text = std::str::from_utf8(value).map_err(|_| "it is not UTF-8".to_owned())?;
    found(&read_host(text)?).ok_or_else(|| "it is not an address".to_owned())
}

fn shown(key: &[u8]) -> String {
    let (beginning, rest) = key.split_at(key.len().min(MAX_SHOWN_KEY));
    let dots = if rest.is_empty() { "" } else { "..." };
    format!("`{}{dots}`", beginning.escape_ascii())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn status(values: &[(&str, &str)]) -> PrefixStatus {
        let keys = values.iter().map(|(key, value)| {
            let key_value = KeyValue {
                key: key.as_bytes().to_vec(),
                value: value.as_bytes().to_vec(),
                ..KeyValue::default()
            };
            (key.as_bytes().to_vec(), Arc::new(key_value))
        });
        PrefixStatus {
            snapshot: Some(PrefixSnapshot {
                keys: Arc::new(BTreeMap::from_iter(keys)),
                ..PrefixSnapshot::default()
            }),
            confirmed: Some(Instant::now()),
            failure: None,
        }
    }

    fn addresses(answer: &Answer) -> Vec<String> {
        let (Answer::Complete { hosts, .. } | Answer::Partial { hosts, .. }) = answer else {
            return Vec::new();
        };
        let addresses = hosts.iter().map(|host| host.address.to_string());
        addresses.collect()
    }

    #[test]
    fn values_are_addresses_or_maps() {
        let (mut reader, mut confirmed) = (HostReader::default(), None);
        let both = status(&[
            ("/a", "10.0.0.1:80"),
            (
                "/b",
                r#"{"address": "[::1]:80", "weight": 3, "labels": {"zone": "b"}}"#,
            ),
        ]);
        let answer = reader.answer(&both, &mut confirmed);
        let Some(Answer::Complete { hosts, ttl: None }) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(hosts[0].address.to_string(), "10.0.0.1:80");
        assert_eq!(hosts[1].weight, Some(3));
        assert_eq!(hosts[1].labels["zone"], "b");
        // The same again is no news.
        assert_eq!(reader.answer(&both, &mut confirmed), None);
    }

    #[test]
    fn a_value_is_read_again_when_it_changes() {
        let (mut reader, mut confirmed) = (HostReader::default(), None);
        for (value, expected) in [("10.0.0.1:80", 1), ("wrong", 0), ("10.0.0.2:80", 1)] {
            let answer = reader.answer(&status(&[("/a", value)]), &mut confirmed);
            let answer = answer.expect("it is news");
            assert_eq!(addresses(&answer).len(), expected, "{answer:?}");
        }
        assert_eq!(reader.read.len(), 1);
        reader.answer(&status(&[]), &mut confirmed);
        assert!(reader.read.is_empty());
    }

    #[test]
    fn wrong_values_are_named_and_the_rest_counts() {
        let mut values = vec![("/good", "10.0.0.1:80")];
        values.extend(
            ["/1", "/2", "/3", "/4", "/5"]
                .iter()
                .map(|key| (*key, "app.internal:80")),
        );
        let answer = HostReader::default().answer(&status(&values), &mut None);
        let Some(Answer::Partial { hosts, reason, .. }) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(hosts.len(), 1);
        assert!(
            reason.contains("the value of `/1` is no host: ") && reason.ends_with("; and 2 more"),
            "{reason}"
        );
        let long = "/".repeat(1_000);
        assert!(shown(long.as_bytes()).len() < 140);
    }
}
