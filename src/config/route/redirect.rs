//! `redirect`: the client is sent to another URL.

use crate::config::hints::quote;
use crate::config::schema::{Scalar, SectionKind, choice, map_of, section};
use crate::config::template::{Template, Variable, template};

section! {
    /// The client is sent to another URL.
    pub struct Redirect: Eq {
        /// The URL. {scheme}, {host} (without port), {uri} (path and query), {path} and {query} are those of the request.
        to: Template { target(), required "\"https://{host}{uri}\"" },
        /// 301 and 308 are permanent; 302, 303 and 307 are not. After 307 and 308 clients keep method and body.
        status: u16 {
            choice(&[("301", 301), ("302", 302), ("303", 303), ("307", 307), ("308", 308)]),
            default "308"
        },
    }
}

/// A URL, or a map.
pub(super) fn redirect() -> SectionKind<Redirect> {
    map_of::<Redirect>().short_for("to")
}

fn target() -> Scalar<Template> {
    template("a URL", Variable::OF_URL, |text| {
        if let Some(wrong) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(format!(
                "{} has {wrong:?} in it, which has to be encoded in a URL",
                quote(text)
            ));
        }
        match text.starts_with(['/', '{']) || text.contains("://") {
            true => Ok(()),
            false => Err(format!(
                "{} is neither a URL such as `https://{{host}}{{uri}}` nor a path that begins with `/`",
                quote(text)
            )),
        }
    })
}
