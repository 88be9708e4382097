//! The instances of a service, as Consul's health API gives them.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use crate::config::ConsulService;
use crate::discovery::answer::{FoundHost, scaled_weight};

/// Characters of what an instance says that are kept. Consul allows 512 in a value of its metadata.
const MAX_TEXT: usize = 512;

/// The largest number of labels of an instance. Consul allows 64 values of metadata.
const MAX_LABELS: usize = 64;

/// An instance. Consul writes `null` for what is empty.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Instance {
    node: Node,
    service: Service,
    #[serde(default)]
    checks: Option<Vec<Check>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    node: String,
    #[serde(default)]
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(default, rename = "ID")]
    id: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: i64,
    #[serde(default)]
    weights: Option<Weights>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    meta: Option<HashMap<String, String>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    #[serde(default = "one")]
    passing: i64,
    #[serde(default = "one")]
    warning: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(default, rename = "CheckID")]
    id: String,
    #[serde(default)]
    status: String,
}

fn one() -> i64 {
    1
}

/// What the checks of an instance say together: the worst of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Passing,
    Warning,
    Critical,
    /// An operator has taken it or its node out of service.
    Maintenance,
}

impl Check {
    fn status(&self) -> Status {
        let is_maintenance =
            self.id == "_node_maintenance" || self.id.starts_with("_service_maintenance:");
        match &*self.status {
            "passing" => Status::Passing,
            _ if is_maintenance => Status::Maintenance,
            "warning" => Status::Warning,
            _ => Status::Critical,
        }
    }
}

impl Instance {
    fn status(&self) -> Status {
        let checks = self.checks.iter().flatten();
        checks.map(Check::status).max().unwrap_or(Status::Passing)
    }

    /// Its weight among the hosts, before it is scaled.
    fn weight(&self) -> u64 {
        let weights = self.service.weights.unwrap_or(Weights {
            passing: 1,
            warning: 1,
        });
        let weight = match self.status() {
            Status::Passing => weights.passing,
            Status::Warning | Status::Critical => weights.warning,
            Status::Maintenance => 0,
        };
        u64::try_from(weight).unwrap_or(0)
    }

    /// Where it is.
    ///
    /// # Errors
    /// It is not said, or said by a name.
    fn address(&self) -> Result<SocketAddr, String> {
        let text = match &*self.service.address {
            "" => &*self.node.address,
            text => text,
        };
        let shown = self.shown();
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let ip: IpAddr = bare.unwrap_or(text).parse().map_err(|_| match text {
            "" => format!("{shown} has no address"),
            text => format!(
                "{shown} has the address `{}`, which is not an IP address; names are resolved only in the configuration itself",
                cut(text)
            ),
        })?;
        match u16::try_from(self.service.port) {
            Ok(port) if port > 0 => Ok(SocketAddr::new(ip, port)),
            _ => Err(format!("{shown} has port {}", self.service.port)),
        }
    }

    fn shown(&self) -> String {
        let (id, node) = (cut(&self.service.id), cut(&self.node.node));
        format!("the instance `{id}` on node `{node}`")
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let meta = self.service.meta.iter().flatten();
        let meta = meta.map(|(key, value)| (cut(key), cut(value)));
        // In an order of their own, so that the same ones are left out each time.
        let meta = BTreeMap::from_iter(meta);
        let mut labels = BTreeMap::from_iter(meta.into_iter().take(MAX_LABELS));
        let tags = self.service.tags.iter().flatten();
        let tags = Vec::from_iter(tags.map(String::as_str)).join(",");
        for (key, value) in [
            ("id", &self.service.id),
            ("node", &self.node.node),
            ("tags", &tags),
        ] {
            if !value.is_empty() {
                labels.insert(key.to_owned(), cut(value));
            }
        }
        labels
    }
}

/// The hosts among `instances`, and what is wrong with the others.
pub(super) fn hosts(
    service: &ConsulService,
    mut instances: Vec<Instance>,
) -> (Vec<FoundHost>, Vec<String>) {
    instances.retain(|instance| !service.passing || instance.status() == Status::Passing);
    let heaviest = instances.iter().map(Instance::weight).max().unwrap_or(0);
    let (mut hosts, mut wrong) = (Vec::with_capacity(instances.len()), Vec::new());
    for instance in &instances {
        match instance.address() {
            Ok(address) => hosts.push(FoundHost {
                weight: Some(scaled_weight(instance.weight(), heaviest)),
                labels: instance.labels(),
                ..FoundHost::at(address)
            }),
            Err(reason) => wrong.push(reason),
        }
    }
    (hosts, wrong)
}

/// A text for one line of a log or a table.
fn cut(text: &str) -> String {
    let visible = text.chars().filter(|c| !c.is_control());
    visible.take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(passing: bool) -> ConsulService {
        ConsulService {
            service: "web".to_owned(),
            tag: None,
            datacenter: None,
            passing,
        }
    }

    fn read(instances: Value, passing: bool) -> (Vec<FoundHost>, Vec<String>) {
        let instances = serde_json::from_value(instances).expect("instances");
        hosts(&service(passing), instances)
    }

    fn instance(service: Value, checks: &[(&str, &str)]) -> Value {
        let checks = checks
            .iter()
            .map(|(id, status)| json!({ "CheckID": id, "Status": status }));
        json!({
            "Node": { "Node": "n1", "Address": "10.0.0.9" },
            "Service": service,
            "Checks": Vec::from_iter(checks),
        })
    }

    #[test]
    fn the_address_of_the_service_counts_or_else_that_of_its_node() {
        let instances = json!([
            instance(json!({ "ID": "a", "Address": "10.0.0.1", "Port": 80 }), &[]),
            instance(json!({ "ID": "b", "Address": "", "Port": 81 }), &[]),
            instance(json!({ "ID": "c", "Address": "fd00::1", "Port": 82 }), &[]),
            instance(json!({ "ID": "d", "Address": "[fd00::1]", "Port": 83 }), &[]),
            { "Node": { "Address": "10.0.0.2" }, "Service": { "Port": 84, "Tags": null, "Meta": null }, "Checks": null },
        ]);
        let (hosts, wrong) = read(instances, true);
        let addresses = Vec::from_iter(hosts.iter().map(|host| host.address.to_string()));
        let expected = [
            "10.0.0.1:80",
            "10.0.0.9:81",
            "[fd00::1]:82",
            "[fd00::1]:83",
            "10.0.0.2:84",
        ];
        assert_eq!(addresses, expected);
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn what_is_no_address_is_told_and_the_rest_counts() {
        let instances = json!([
            instance(json!({ "ID": "a", "Address": "10.0.0.1", "Port": 80 }), &[]),
            instance(json!({ "ID": "b", "Address": "app.internal", "Port": 80 }), &[]),
            instance(json!({ "ID": "c", "Address": "10.0.0.2", "Port": 0 }), &[]),
            instance(json!({ "ID": "d", "Address": "10.0.0.2", "Port": 65536 }), &[]),
            instance(json!({ "ID": "e", "Address": "10.0.0.2", "Port": -1 }), &[]),
            { "Node": {}, "Service": { "ID": "f", "Port": 1 } },
        ]);
        let (hosts, wrong) = read(instances, true);
        assert_eq!(hosts.len(), 1);
        assert_eq!(wrong.len(), 5, "{wrong:?}");
        assert!(
            wrong[0].starts_with("the instance `b` on node `n1` has the address `app.internal`")
        );
        assert!(wrong[1].ends_with("has port 0"));
        assert!(wrong[4].ends_with("has no address"));
    }

    #[test]
    fn the_worst_check_decides() {
        let weights = json!({ "Passing": 10, "Warning": 2 });
        let with = |port: u16, checks: &[(&str, &str)]| {
            let service = json!({ "ID": "a", "Port": port, "Weights": weights });
            instance(service, checks)
        };
        let instances = json!([
            with(1, &[("serfHealth", "passing"), ("web", "passing")]),
            with(2, &[("serfHealth", "passing"), ("web", "warning")]),
            with(3, &[("serfHealth", "critical"), ("web", "warning")]),
            with(4, &[("web", "passing"), ("_node_maintenance", "critical")]),
            with(5, &[("_service_maintenance:a", "critical")]),
            with(6, &[("web", "unheard-of")]),
        ]);
        let weights = |passing| {
            let (hosts, _) = read(instances.clone(), passing);
            Vec::from_iter(hosts.iter().map(|host| (host.address.port(), host.weight)))
        };
        assert_eq!(weights(true), [(Some(1), Some(10))]);
        let all = [(1, 10), (2, 2), (3, 2), (4, 0), (5, 0), (6, 2)];
        assert_eq!(
            weights(false),
            all.map(|(port, weight)| (Some(port), Some(weight)))
        );
    }

    #[test]
    fn weights_are_scaled_and_never_negative() {
        let with = |port: u16, passing: i64| {
            let weights = json!({ "Passing": passing, "Warning": 1 });
            instance(json!({ "Port": port, "Weights": weights }), &[])
        };
        let (hosts, _) = read(json!([with(1, 65_535), with(2, 1), with(3, -4)]), true);
        let weights = Vec::from_iter(hosts.iter().map(|host| host.weight));
        assert_eq!(weights, [Some(10_000), Some(1), Some(0)]);
    }

    #[test]
    fn tags_and_metadata_are_labels() {
        let service = json!({
            "ID": "web-1", "Port": 80, "Tags": ["v1", "blue"], "Meta": { "zone": "a\nb", "node": "lie" },
        });
        let (hosts, _) = read(json!([instance(service, &[])]), true);
        let labels = hosts[0].labels.iter();
        let labels = Vec::from_iter(labels.map(|(key, value)| (key.as_str(), value.as_str())));
        let expected = [
            ("id", "web-1"),
            ("node", "n1"),
            ("tags", "v1,blue"),
            ("zone", "ab"),
        ];
        assert_eq!(labels, expected);
    }
}
