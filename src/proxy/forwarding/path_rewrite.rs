//! The path that hosts get where a route changes it, and the way back for Location and cookies.

use crate::config::{PathRewrite, begins_with_segments};
use crate::normalize;
use crate::proxy::template_values::TemplateValues;

/// The target for the host. `target` is the client's in origin-form. `None`: it stays.
pub(crate) fn rewrite_target(
    rewrite: &PathRewrite,
    values: &TemplateValues<'_>,
    target: &[u8],
) -> Option<Vec<u8>> {
    if rewrite.is_empty() || !target.starts_with(b"/") {
        return None;
    }
    let end = target.iter().position(|&byte| byte == b'?');
    let (path, query) = target.split_at(end.unwrap_or(target.len()));
    let mut rewritten = match &rewrite.replace_path {
        Some(template) => with_one_slash(&values.render(template)),
        None => {
            let stripped = rewrite
                .strip_prefix
                .as_deref()
                .and_then(|prefix| strip(path, prefix.as_bytes()));
            match (&rewrite.add_prefix, stripped) {
                (Some(prefix), stripped) => {
                    let rest = stripped.as_deref().unwrap_or(path);
                    [prefix.as_bytes(), rest].concat()
                }
                (None, stripped) => stripped?,
            }
        }
    };
    rewritten.extend_from_slice(query);
    Some(rewritten)
}

/// The rest of a path after `prefix`, which has no slash at its end. Whether the path begins with it is decided by the
/// normal form, as for routes. The rest is as sent, unless dot segments would lead out of it.
fn strip(path: &[u8], prefix: &[u8]) -> Option<Vec<u8>> {
    let normal = normalize::path(path).path;
    if !begins_with_segments(&normal, prefix) {
        return None;
    }
    let rest = match begins_with_segments(path, prefix) && !may_have_dot_segments(path) {
        true => &path[prefix.len()..],
        false => &normal[prefix.len()..],
    };
    Some(with_one_slash(rest))
}

/// Whether a path may have `.` and `..` as segments, in any spelling.
fn may_have_dot_segments(path: &[u8]) -> bool {
    let is_dot = |at: usize| matches!(&path[at..], [b'.', ..] | [b'%', b'2', b'e' | b'E', ..]);
    let is_slash = |byte: u8| matches!(byte, b'/' | b'\\' | b'%');
    (0..path.len()).any(|at| is_dot(at) && (at == 0 || is_slash(path[at - 1])))
        || path.contains(&b'\\')
}

/// The path with exactly one slash in front: `//name` would be read as the name of another server.
fn with_one_slash(path: &[u8]) -> Vec<u8> {
    let rest = path.iter().position(|&byte| !matches!(byte, b'/' | b'\\'));
    let rest = rest.map_or(&b""[..], |at| &path[at..]);
    [b"/", rest].concat()
}

/// Maps paths of a host's response back to those that clients use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathRestorer<'a> {
    rewrite: &'a PathRewrite,
    /// The authority that the client asked for.
    authority: &'a [u8],
    /// The host's own authority.
    upstream: &'a [u8],
}

impl<'a> PathRestorer<'a> {
    /// `None`: paths are the same on both sides, or there is no way back.
    pub(crate) fn new(
        rewrite: &'a PathRewrite,
        authority: &'a [u8],
        upstream: &'a [u8],
    ) -> Option<Self> {
        (rewrite.strip_prefix.is_some() || rewrite.add_prefix.is_some()).then_some(PathRestorer {
            rewrite,
            authority,
            upstream,
        })
    }

    /// The value that clients get of a response field. `None`: it stays.
    pub(crate) fn restore(&self, name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        match name.len() {
            8 if name.eq_ignore_ascii_case(b"location") => self.location(value),
            10 if name.eq_ignore_ascii_case(b"set-cookie") => self.cookie(value),
            16 if name.eq_ignore_ascii_case(b"content-location") => self.location(value),
            _ => None,
        }
    }

    /// A path, or a URL of this site; others stay.
    fn location(&self, value: &[u8]) -> Option<Vec<u8>> {
        if value.starts_with(b"/") && !value.starts_with(b"//") {
            return self.path(value);
        }
        let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
            let begin = value.get(..scheme.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
        })?;
        let rest = &value[scheme.len()..];
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
        let (authority, path) = rest.split_at(end.unwrap_or(rest.len()));
        let is_own = authority.eq_ignore_ascii_case(self.authority);
        if !is_own && !authority.eq_ignore_ascii_case(self.upstream) {
            return None;
        }
        let path = match path {
            [b'/', ..] => path.to_vec(),
            _ => [b"/", path].concat(),
        };
        let path = self.path(&path).unwrap_or(path);
        // A client cannot reach the host itself, so it gets the path alone.
        Some(match is_own {
            true => [&value[..scheme.len()], authority, &path].concat(),
            false => path,
        })
    }

    fn cookie(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut parts = Vec::new();
        let mut is_changed = false;
        for (index, part) in value.split(|&byte| byte == b';').enumerate() {
            let attribute = part.trim_ascii_start();
            let path = attribute
                .get(..5)
                .filter(|name| index > 0 && name.eq_ignore_ascii_case(b"path="))
                .map(|_| attribute[5..].trim_ascii_end())
                .and_then(|path| self.path(path));
            match path {
                Some(path) => {
                    // A path of / would become /api/, which does not hold for /api itself.
                    let trimmed = path.strip_suffix(b"/").filter(|path| !path.is_empty());
                    parts.push([b" Path=", trimmed.unwrap_or(&path)].concat());
                    is_changed = true;
                }
                None => parts.push(part.to_vec()),
            }
        }
        is_changed.then(|| parts.join(&b';'))
    }

    fn path(&self, path: &[u8]) -> Option<Vec<u8>> {
        let added = self.rewrite.add_prefix.as_deref().unwrap_or_default();
        let stripped = self.rewrite.strip_prefix.as_deref().unwrap_or_default();
        let is_path = path.starts_with(b"/");
        let end = path.iter().position(|byte| matches!(byte, b'?' | b'#'));
        let (only, _) = path.split_at(end.unwrap_or(path.len()));
        if !is_path || !begins_with_segments(only, added.as_bytes()) {
            return None;
        }
        let rest = &path[added.len()..];
        Some(match (stripped, rest) {
            ("", [b'/', ..]) => rest.to_vec(),
            ("", rest) => [b"/", rest].concat(),
            (prefix, rest) => [prefix.as_bytes(), rest].concat(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(strip: &str, add: &str) -> PathRewrite {
        let prefix = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        PathRewrite {
            strip_prefix: prefix(strip),
            add_prefix: prefix(add),
            replace_path: None,
        }
    }

    #[test]
    fn a_prefix_is_stripped_in_whole_segments() {
        for (path, expected) in [
            ("/api", Some("/")),
            ("/api/", Some("/")),
            ("/api/v1;a=1//x/%2f", Some("/v1;a=1//x/%2f")),
            ("/api//evil.example/x", Some("/evil.example/x")),
            ("/api/\\evil.example", Some("/evil.example")),
            ("/apis", None),
            ("/", None),
            ("/%61pi/v1", Some("/v1")),
            ("//api/v1", Some("/v1")),
            ("/api/../admin", None),
            ("/x/../api/v1", Some("/v1")),
            ("/api/a/../../admin", None),
            ("/api/a/../b", Some("/b")),
            ("/api/%2e%2e/admin", None),
            ("/api/..;/admin", None),
        ] {
            let stripped = strip(path.as_bytes(), b"/api");
            let stripped = stripped.map(|path| String::from_utf8(path).expect("UTF-8"));
            assert_eq!(stripped.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn paths_of_responses_find_their_way_back() {
        for (strip, add, name, value, expected) in [
            (
                "/api",
                "",
                "Location",
                "/login?a=/x",
                Some("/api/login?a=/x"),
            ),
            ("/api", "", "location", "/", Some("/api/")),
            ("/api", "", "Location", "//other.example/", None),
            ("/api", "", "Location", "login", None),
            ("/api", "", "Location", "https://other.example/x", None),
            (
                "/api",
                "",
                "Location",
                "https://Site.example:8443/x#y",
                Some("https://Site.example:8443/api/x#y"),
            ),
            (
                "/api",
                "",
                "Location",
                "http://10.0.0.1:80/x",
                Some("/api/x"),
            ),
            ("/api", "", "Location", "http://10.0.0.1:80", Some("/api/")),
            ("", "/app", "Location", "/app/x", Some("/x")),
            ("", "/app", "Location", "/app", Some("/")),
            ("", "/app", "Location", "/apples", None),
            ("/api", "/app", "Location", "/app/x", Some("/api/x")),
            ("/api", "/app", "Location", "/x", None),
            ("/api", "", "Content-Location", "/x", Some("/api/x")),
            ("/api", "", "Link", "/x", None),
            (
                "/api",
                "",
                "Set-Cookie",
                "a=Path=/; path=/; HttpOnly",
                Some("a=Path=/; Path=/api; HttpOnly"),
            ),
            ("/api", "", "Set-Cookie", "a=1; Secure", None),
            (
                "/api",
                "",
                "Set-Cookie",
                "a=1;Path=/x/",
                Some("a=1; Path=/api/x"),
            ),
        ] {
            let rewrite = rewrite(strip, add);
            let restorer = PathRestorer::new(&rewrite, b"site.example:8443", b"10.0.0.1:80");
            let restored = restorer
                .expect("there is a prefix")
                .restore(name.as_bytes(), value.as_bytes());
            let restored = restored.map(|value| String::from_utf8(value).expect("UTF-8"));
            assert_eq!(restored.as_deref(), expected, "{strip} {add} {value}");
        }
    }
}
