//! Addresses of hosts and listeners in JSON: their text. The library of algorithms has no serde.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::balancer::HostAddress;

impl Serialize for HostAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
