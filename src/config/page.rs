//! Bodies of responses that stand in the configuration or in files.

use std::path::{Path, PathBuf};

use http::HeaderValue;
use serde_json::json;

use super::document::Node;
use super::environment::without_bom;
use super::hints::quote;
use super::schema::{Reader, Scalar, file, scalar, section};
use super::template::{Template, Variable, template};

section! {
    /// The body of a response: text, with the variables {client_ip}, {host}, {request_id}, {scheme}, {uri}, {path}, {query},
    /// {method}, {pool}, {status} and {message}.
    pub struct Page: Eq, Default {
        /// The text of the body. {client_ip}, {host}, {method}, {path}, {pool}, {query}, {request_id}, {scheme}, {status} and
        /// {uri} stand for those of the request, and {message} for what is wrong with it; `\{host}` is the text `{host}`.
        body: Option<Template> { template("a text", VARIABLES, |_| Ok(())), optional "\"out of order\"" },
        /// A file with the text instead, which is read again at each reload; at most 1 MiB.
        file: Option<PageFile> { page_file(), optional "/etc/ballast/503.html" },
        /// The media type. Without it that of the file's name; `text/plain; charset=utf-8` for others.
        r#type: Option<HeaderValue> { media_type(), optional "application/json" },
    }
    check one_source;
}

/// A file that holds the text of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its text.
    pub text: Template,
}

/// The variables in bodies.
const VARIABLES: &[Variable] = &[
    Variable::ClientIp,
    Variable::Host,
    Variable::Message,
    Variable::Method,
    Variable::Path,
    Variable::Pool,
    Variable::Query,
    Variable::RequestId,
    Variable::Scheme,
    Variable::Status,
    Variable::Uri,
];

/// Media types by the end of a file's name.
const TYPES: [(&str, &str); 8] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("json", "application/json"),
    ("xml", "application/xml"),
    ("svg", "image/svg+xml"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
];

impl Page {
    /// The text, if there is one.
    pub fn text(&self) -> Option<&Template> {
        self.body
            .as_ref()
            .or(self.file.as_ref().map(|file| &file.text))
    }

    /// The media type.
    pub fn media_type(&self) -> HeaderValue {
        let by_name = || {
            let extension = self.file.as_ref()?.path.extension()?.to_str()?;
            let known = TYPES
                .iter()
                .find(|(known, _)| extension.eq_ignore_ascii_case(known));
            known.map(|(_, media_type)| *media_type)
        };
        match &self.r#type {
            Some(media_type) => media_type.clone(),
            None => HeaderValue::from_static(by_name().unwrap_or("text/plain; charset=utf-8")),
        }
    }

    /// Whether the text is JSON.
    pub fn is_json(&self) -> bool {
        is_json(self.media_type().as_bytes())
    }

    /// The key that the text is from.
    pub(super) fn source(&self) -> Option<&'static str> {
        match (&self.body, &self.file) {
            (Some(_), _) => Some("body"),
            (_, Some(_)) => Some("file"),
            (None, None) => None,
        }
    }
}

/// Whether a media type is JSON or based on it, as in `application/problem+json`.
pub(crate) fn is_json(media_type: &[u8]) -> bool {
    let end = media_type.iter().position(|&byte| byte == b';');
    let essence = media_type[..end.unwrap_or(media_type.len())].trim_ascii();
    let from = essence.len().checked_sub(b"json".len());
    from.is_some_and(|from| essence[from..].eq_ignore_ascii_case(b"json"))
}

fn one_source(page: &mut Page, map: &Node, reader: &mut Reader<'_>) {
    if page.body.is_some() && page.file.is_some() {
        reader.problem_of_key(
            map,
            "file",
            "`body` has the text already; leave one of them out",
        );
    } else if page.source().is_none() && page.r#type.is_some() {
        let message = "there is neither `body` nor `file` that has this type";
        reader.problem_of_key(map, "type", message);
    }
}

fn page_file() -> Scalar<PageFile> {
    file("the path of a text file", read_page, |file: &PageFile| {
        json!(file.path)
    })
}

fn read_page(path: PathBuf, reader: &Reader<'_>) -> Result<PageFile, String> {
    let of_file =
        |path: &Path, problem: &str| format!("cannot use `{}`: {problem}", path.display());
    let content = reader.environment.read(&path);
    let content = content.map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let text = str::from_utf8(without_bom(&content));
    let text = text.map_err(|_| of_file(&path, "it is not UTF-8 text"))?;
    let text = Template::parse(text, VARIABLES).map_err(|problem| of_file(&path, &problem))?;
    Ok(PageFile { path, text })
}

fn media_type() -> Scalar<HeaderValue> {
    let read = |text: &str| {
        let (kind, rest) = text.split_once('/').unwrap_or_default();
        let is_type = !kind.is_empty() && !rest.is_empty() && !kind.contains([' ', ';']);
        let value = HeaderValue::from_str(text).ok().filter(|_| is_type);
        value.ok_or_else(|| format!("{} is not a media type such as `text/html`", quote(text)))
    };
    scalar("a media type", read, |value: &HeaderValue| {
        json!(String::from_utf8_lossy(value.as_bytes()))
    })
}
