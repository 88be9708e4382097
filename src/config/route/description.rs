//! What a route matches, on one line.

use std::fmt;

use super::{RequestConditions, RouteMatch};

impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.conditions.fmt(f)?;
        self.exceptions()
            .iter()
            .try_for_each(|exception| write!(f, ", not ({exception})"))
    }
}

impl fmt::Display for RequestConditions {
    /// `everything`, or the conditions in the order of the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("everything");
        }
        let mut parts = Vec::new();
        // Host and path are recognized without a word.
        parts.extend(self.host.clone());
        parts.extend(self.path.as_ref().map(|path| path.to_string()));
        let words = |words: &mut dyn Iterator<Item = String>| Vec::from_iter(words).join(" or ");
        if !self.methods.is_empty() {
            parts.push(words(
                &mut self.methods.iter().map(|method| method.to_string()),
            ));
        }
        let named = |kind: &str, name: &str, value: &dyn fmt::Display| {
            format!("{kind} {}: {value}", name.escape_debug())
        };
        let headers = self.headers.iter();
        parts.extend(headers.map(|(name, value)| named("header", &name.written, value)));
        let query = self.query.iter();
        parts.extend(query.map(|(name, value)| named("query", name, value)));
        let cookies = self.cookies.iter();
        parts.extend(cookies.map(|(name, value)| named("cookie", name, value)));
        if !self.client.is_empty() {
            let networks = &mut self.client.iter().map(|network| network.to_string());
            parts.push(format!("client {}", words(networks)));
        }
        f.write_str(&parts.join(", "))
    }
}
