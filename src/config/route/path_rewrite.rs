//! `strip_prefix`, `add_prefix` and `replace_path`: the path that hosts get.

use crate::config::document::Node;
use crate::config::hints::quote;
use crate::config::schema::{Reader, Scalar, scalar, section};
use crate::config::template::{Template, Variable, template};

use super::path_pattern::parse_path;

section! {
    /// The path that hosts get. The query stays, and so does what `key: path` and `key: uri` look at.
    pub struct PathRewrite: Eq, Default {
        /// The beginning that is taken off, in whole segments: with `/api` hosts get /v1 for /api/v1, and / for /api. Paths
        /// that do not begin with it stay. In responses, Location and the Path of cookies get it back.
        strip_prefix: Option<String> { prefix(), optional "/api" },
        /// What is put in front, after `strip_prefix`. In responses, Location and the Path of cookies lose it.
        add_prefix: Option<String> { prefix(), optional "/app" },
        /// The whole path instead, with {client_ip}, {host}, {method}, {path} and {scheme}.
        replace_path: Option<Template> { replacement(), optional "/index.html" },
    }
    check one_way;
}

impl PathRewrite {
    /// Whether paths stay as they are.
    pub fn is_empty(&self) -> bool {
        self.strip_prefix.is_none() && self.add_prefix.is_none() && self.replace_path.is_none()
    }
}

fn one_way(rewrite: &mut PathRewrite, map: &Node, reader: &mut Reader<'_>) {
    if rewrite.replace_path.is_some() {
        for (key, prefix) in [
            ("strip_prefix", &rewrite.strip_prefix),
            ("add_prefix", &rewrite.add_prefix),
        ] {
            if prefix.is_some() {
                let message = "`replace_path` is the whole path; leave one of them out";
                reader.problem_of_key(map, key, message);
            }
        }
    }
}

/// The beginning of a path, without a slash at its end.
fn prefix() -> Scalar<String> {
    let read = |text: &str| {
        let path = parse_path(text)?;
        match path.trim_end_matches('/') {
            "" => Err(format!("{} is the beginning of every path", quote(text))),
            prefix => Ok(prefix.to_owned()),
        }
    };
    scalar("the beginning of a path", read, |path| {
        serde_json::json!(path)
    })
}

fn replacement() -> Scalar<Template> {
    const VARIABLES: &[Variable] = &[
        Variable::ClientIp,
        Variable::Host,
        Variable::Method,
        Variable::Path,
        Variable::Scheme,
    ];
    template("a path", VARIABLES, |text| {
        let wrong = |c: &char| !c.is_ascii_graphic() || matches!(c, '?' | '#');
        if !text.starts_with(['/', '{']) {
            return Err(format!("{} does not begin with `/`", quote(text)));
        }
        match text.chars().find(wrong) {
            Some(wrong) => Err(format!(
                "{} has {wrong:?} in it, which no path has",
                quote(text)
            )),
            None => Ok(()),
        }
    })
}
