//! `maintenance`: the clients of a pool get 503 until it ends.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;

use super::access::{network, networks};
use super::document::Node;
use super::environment::System;
use super::hints::quote;
use super::page::Page;
use super::scalars;
use super::schema::{Kind, Reader, Scalar, map_of, scalar, section, time};

section! {
    /// The clients of a pool get 503.
    pub struct Maintenance: Eq {
        /// What clients read where there is no page. In pages it is {message}.
        message: String { message(), default "the service is under maintenance" },
        /// The page instead of that of `errors` for 503.
        page: Page { map_of::<Page>(), default "{}" },
        /// The Retry-After of the response.
        retry_after: Duration { time(), default "5m" },
        /// Networks or addresses of clients that are served all the same, such as those who test.
        allow: Vec<IpNet> { networks(), default "[]" },
        .. {
            /// Whether an operator has begun it, and not the file.
            by_operator: bool = false,
        }
    }
}

impl Maintenance {
    /// Maintenance that an operator begins. What the operator leaves out is as in `file`, or else has its default.
    ///
    /// # Errors
    /// A value is not what could stand in a file.
    pub fn by_operator(
        file: Option<&Maintenance>,
        message: Option<&str>,
        retry_after: Option<&str>,
        allow: &[String],
    ) -> Result<Self, String> {
        let defaults = || {
            let mut reader = Reader::new(&[], &System, Vec::new());
            map_of::<Maintenance>().read(&Node::of("{}"), &mut reader)
        };
        let settings = file.cloned().or_else(defaults);
        let mut settings = settings.ok_or("every key of `maintenance` has a default")?;
        let of_key = |key: &'static str| move |problem: String| format!("{key}: {problem}");
        if let Some(message) = message {
            settings.message = parse_message(message).map_err(of_key("message"))?;
        }
        if let Some(time) = retry_after {
            settings.retry_after = scalars::time(time).map_err(of_key("retry_after"))?;
        }
        if !allow.is_empty() {
            let allowed = allow.iter().map(|text| network(text));
            settings.allow = allowed.collect::<Result<_, _>>().map_err(of_key("allow"))?;
        }
        settings.by_operator = true;
        Ok(settings)
    }

    /// Whether a client is served all the same.
    pub fn permits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.allow.iter().any(|network| network.contains(&client))
    }

    /// The time as it stands in a file.
    pub fn retry_after_text(&self) -> String {
        scalars::format_time(self.retry_after)
    }
}

fn message() -> Scalar<String> {
    scalar("a text", parse_message, |message| json!(message))
}

fn parse_message(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("the text is empty; clients would not know what they wait for".to_owned());
    }
    match text.chars().find(|c| c.is_control()) {
        Some(wrong) => Err(format!(
            "{} has {wrong:?} in it, but it is one line; `page` may have more",
            quote(text)
        )),
        None => Ok(text.to_owned()),
    }
}
