//! The cases as the files contain them.

use std::collections::HashMap;

use rand::Rng;
use serde::Deserialize;

/// One raw message and its permitted outcomes.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) class: String,
    raw: String,
    /// For a request: `reject` (a 4xx, 501, 505 or a close, and no complete request reaches the host), `one` (exactly
    /// one well-formed request reaches the host) or `either`. For a response: `ok`, `bad` or `either`.
    pub(crate) expect: String,
    /// MUST, SHOULD, POLICY or CONTROL. CONTROL marks a case that every proxy must pass on.
    pub(crate) level: String,
    pub(crate) why: String,
    /// How many requests may reach the host.
    #[serde(default = "one")]
    pub(crate) n: usize,
    /// The client ends its sending side.
    #[serde(default)]
    pub(crate) fin: bool,
    /// The connection must be closed afterwards.
    #[serde(default)]
    pub(crate) close: bool,
    /// `body`: the head is valid and may have been forwarded before the fault shows.
    #[serde(default)]
    pub(crate) stage: String,
    /// Conditions on the request that the host gets, as `word:value`.
    #[serde(default)]
    pub(crate) checks: Vec<String>,
    /// What the host does after its response: `keep`, `close` or `rst`.
    #[serde(default)]
    pub(crate) end: String,
    #[serde(default = "get")]
    pub(crate) method: String,
    pub(crate) body: Option<String>,
    /// Fields that the client must not see.
    #[serde(default)]
    pub(crate) absent: Vec<String>,
    /// How many Set-Cookie fields the client must see.
    pub(crate) cookies: Option<usize>,
    /// Sent instead of `raw`.
    #[serde(skip)]
    mutated: Option<Vec<u8>>,
}

fn one() -> usize {
    1
}

fn get() -> String {
    "GET".to_owned()
}

impl Case {
    pub(crate) fn all(text: &str) -> Vec<Case> {
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("a case"))
            .collect()
    }

    /// The bytes to send: each character is one byte. `{{a*5}}` stands for five times that character, `{{hdrs*5}}` for
    /// five fields and `{{i102*5}}` for five interim responses.
    pub(crate) fn raw(&self) -> Vec<u8> {
        if let Some(bytes) = &self.mutated {
            return bytes.clone();
        }
        let mut text = String::new();
        let mut rest = self.raw.as_str();
        while let Some((before, tail)) = rest.split_once("{{") {
            let repeated = tail.split_once("}}").and_then(|(inner, after)| {
                let (what, count) = inner.split_once('*')?;
                Some((what, count.parse::<usize>().ok()?, after))
            });
            let (what, count, after) = repeated.expect("`{{what*count}}`");
            text.push_str(before);
            for number in 0..count {
                match what {
                    "hdrs" => text.push_str(&format!("X-H{number}: v\r\n")),
                    "i102" => text.push_str("HTTP/1.1 102 Processing\r\n\r\n"),
                    what => text.push_str(what),
                }
            }
            rest = after;
        }
        text.push_str(rest);
        text.chars()
            .map(|c| u8::try_from(c).expect("a byte"))
            .collect()
    }

    /// The same case with some bytes changed, inserted, removed or repeated. The correct outcome is unknown then.
    pub(crate) fn mutated(&self, number: usize, random: &mut impl Rng) -> Case {
        const LIKELY: &[u8] = b"\r\n\t\0 :;,#/0159aZ_-+{\x7f\x80\xff";
        let mut bytes = self.raw();
        for _ in 0..random.gen_range(1..=4) {
            let at = random.gen_range(0..=bytes.len());
            let byte = LIKELY[random.gen_range(0..LIKELY.len())];
            match random.gen_range(0..4) {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ => {
                    let end = bytes.len().min(at + random.gen_range(0..40));
                    let again = bytes[at..end].to_vec();
                    let to = random.gen_range(0..=bytes.len());
                    bytes.splice(to..to, again);
                }
            }
        }
        Case {
            id: format!("{}-m{number}", self.id),
            expect: "either".to_owned(),
            fin: true,
            close: false,
            checks: Vec::new(),
            body: None,
            absent: Vec::new(),
            cookies: None,
            mutated: Some(bytes),
            ..self.clone()
        }
    }
}

/// The cases that Ballast is known to fail, each with the reason.
pub(crate) fn known_limits() -> HashMap<&'static str, &'static str> {
    include_str!("known_limits.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .collect()
}
