//! `respond`: the client gets a response from the configuration.

use crate::config::document::Node;
use crate::config::page::Page;
use crate::config::schema::{Reader, SectionKind, map_of, section, whole};

section! {
    /// The client gets a response from the configuration.
    pub struct Respond: Eq {
        /// The status.
        status: u16 { whole(200..=599), default "200" },
        /// The body.
        page: Page { map_of::<Page>(), flat },
    }
    check body_is_allowed;
}

/// A status, or a map.
pub(super) fn respond() -> SectionKind<Respond> {
    map_of::<Respond>().short_for("status")
}

fn body_is_allowed(respond: &mut Respond, map: &Node, reader: &mut Reader<'_>) {
    if matches!(respond.status, 204 | 205 | 304)
        && let Some(key) = respond.page.source()
    {
        let message = format!("a response with status {} has no body", respond.status);
        reader.problem_of_key(map, key, message);
    }
}
