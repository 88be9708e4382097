//! Texts with variables, such as `https://{host}{uri}`.

use std::ops::Range;

use serde_json::json;

use super::hints::{did_you_mean, quote};
use super::schema::{Scalar, scalar};

/// A text with variables, which each request has its own values for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// This range of the text.
    Text(Range<usize>),
    Variable(Variable),
}

/// A value of a request that a template can have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The client's IP address.
    ClientIp,
    /// The host name of the request, without port.
    Host,
    /// The id of the request.
    RequestId,
    /// `http` or `https`, as the client sees it.
    Scheme,
    /// Path and query as the client sent them.
    Uri,
    /// The path as the client sent it.
    Path,
    /// The query as the client sent it, without `?`.
    Query,
    /// The method.
    Method,
    /// The name of the pool; empty where there is none.
    Pool,
    /// The host that gets the request, as in the file; empty where there is none.
    Upstream,
    /// The status of the response.
    Status,
    /// The user whose password the client has given; empty where the route asks for none.
    User,
    /// Whether the client has shown a certificate: `SUCCESS`, `NONE`, or nothing where it was not asked for one.
    ClientVerify,
    /// The distinguished name in the client's certificate; empty where there is none.
    ClientSubject,
    /// What is wrong with the request, as the proxy says it; empty if nothing is.
    Message,
}

impl Variable {
    const ALL: [(&'static str, Variable); 15] = [
        ("client_ip", Variable::ClientIp),
        ("host", Variable::Host),
        ("request_id", Variable::RequestId),
        ("scheme", Variable::Scheme),
        ("uri", Variable::Uri),
        ("path", Variable::Path),
        ("query", Variable::Query),
        ("method", Variable::Method),
        ("pool", Variable::Pool),
        ("upstream", Variable::Upstream),
        ("status", Variable::Status),
        ("user", Variable::User),
        ("client_verify", Variable::ClientVerify),
        ("client_subject", Variable::ClientSubject),
        ("message", Variable::Message),
    ];

    /// What can be a part of a URL: a request has it before its pool is known, and it has no spaces.
    pub(super) const OF_URL: &'static [Variable] = &[
        Variable::ClientIp,
        Variable::Host,
        Variable::Scheme,
        Variable::Uri,
        Variable::Path,
        Variable::Query,
        Variable::Method,
    ];

    fn name(self) -> &'static str {
        let known = Variable::ALL.iter().find(|(_, known)| *known == self);
        known.map_or("", |(name, _)| name)
    }
}

impl Template {
    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Appends the text to `out`, with what `value` appends in the places of variables.
    pub fn render(&self, out: &mut Vec<u8>, mut value: impl FnMut(Variable, &mut Vec<u8>)) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(range) => out.extend_from_slice(&self.text.as_bytes()[range.clone()]),
                Piece::Variable(variable) => value(*variable, out),
            }
        }
    }

    /// Reads a text in which `allowed` variables may stand. Braces around anything but a word in lower case are text, as
    /// in JSON, and so are those after a backslash, which is left out.
    pub(super) fn parse(text: &str, allowed: &[Variable]) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let (mut begin, mut at) = (0, 0);
        while let Some(open) = text[at..].find('{').map(|open| at + open) {
            let name = text[open + 1..].split('}').next().unwrap_or_default();
            let is_word = |name: &str| {
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            };
            let end = open + 1 + name.len();
            if name.is_empty() || !is_word(name) || end == text.len() {
                at = open + 1;
                continue;
            }
            if text[begin..open].ends_with('\\') {
                pieces.push(Piece::Text(begin..open - 1));
                (begin, at) = (open, end + 1);
                continue;
            }
            let known = Variable::ALL.iter().find(|(known, _)| *known == name);
            match known {
                Some((_, variable)) if allowed.contains(variable) => {
                    pieces.push(Piece::Text(begin..open));
                    pieces.push(Piece::Variable(*variable));
                }
                _ => {
                    let names = || allowed.iter().map(|variable| variable.name());
                    let known = Vec::from_iter(names().map(|name| format!("{{{name}}}")));
                    return Err(format!(
                        "{} is not a variable that can stand here, which are {} (`\\{{{name}}}` is a text){}",
                        quote(&format!("{{{name}}}")),
                        known.join(", "),
                        did_you_mean(name, names())
                    ));
                }
            }
            (begin, at) = (end + 1, end + 1);
        }
        pieces.push(Piece::Text(begin..text.len()));
        pieces.retain(|piece| !matches!(piece, Piece::Text(range) if range.is_empty()));
        Ok(Template {
            text: text.to_owned(),
            pieces,
        })
    }
}

/// A text in which `allowed` variables may stand, and which `check` accepts.
pub(super) fn template(
    phrase: &'static str,
    allowed: &'static [Variable],
    check: impl Fn(&str) -> Result<(), String> + 'static,
) -> Scalar<Template> {
    let read = move |text: &str| {
        check(text)?;
        Template::parse(text, allowed)
    };
    scalar(phrase, read, |template: &Template| json!(template.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Result<String, String> {
        let template = Template::parse(text, &[Variable::Host, Variable::Uri])?;
        let mut out = Vec::new();
        template.render(&mut out, |variable, out| {
            out.extend_from_slice(variable.name().to_uppercase().as_bytes());
        });
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn variables_get_values_and_other_braces_stay() {
        for (text, expected) in [
            ("", ""),
            ("https://{host}{uri}", "https://HOSTURI"),
            ("{host}", "HOST"),
            ("{\"a\": {\"b\": \"{uri}\"}}", "{\"a\": {\"b\": \"URI\"}}"),
            ("{}{", "{}{"),
            ("{host", "{host"),
            ("{{host}}", "{HOST}"),
            ("a { color: red }", "a { color: red }"),
            (r"\{host} {host}", "{host} HOST"),
            (r"{host}\{uri}\{name}", "HOST{uri}{name}"),
            (r"a\b \{ \{A}", r"a\b \{ \{A}"),
        ] {
            assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_unknown_variable_is_refused() {
        assert_eq!(
            rendered("https://{hosts}/").expect_err("unknown"),
            "`{hosts}` is not a variable that can stand here, which are {host}, {uri} (`\\{hosts}` is a text); did you mean `host`?"
        );
        let error = rendered("{pool}").expect_err("not allowed here");
        assert!(
            error.starts_with("`{pool}` is not a variable that can stand here"),
            "{error}"
        );
    }
}
