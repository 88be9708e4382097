//! The bodies of the proxy's own error responses: pages of the configuration, and JSON for clients that ask for it.

use bytes::Bytes;
use http::HeaderValue;
use http::header::{ACCEPT, VARY};
use serde::Serialize;

use super::context::RequestContext;
use super::forwarding::request_id::RequestId;
use super::local_message::LocalMessage;
use super::template_values::TemplateValues;
use crate::config::Page;
use crate::message::RequestView;
use crate::record::TerminationReason;

/// The quality of a media type without `q`, in thousandths.
const FULL_QUALITY: u16 = 1000;

/// An error response in JSON.
#[derive(Debug, Serialize)]
struct JsonError<'a> {
    status: u16,
    error: &'a str,
    request_id: &'a str,
}

impl RequestContext {
    /// Gives an error response the page that the configuration has for it, or JSON if the client asks for it. `tls`:
    /// whether the client's connection is encrypted.
    pub(super) fn set_error_page(
        &mut self,
        message: &mut LocalMessage,
        request: RequestView<'_>,
        tls: bool,
    ) {
        if !message.is_error() {
            return;
        }
        let active = self.active.clone();
        let maintenance = match message.termination() {
            TerminationReason::Maintenance => self.pool().maintenance(),
            _ => None,
        };
        let own = maintenance.as_ref().map(|maintenance| &maintenance.page);
        let route = self.route.and_then(|number| active.routes.get(number));
        let status = message.status();
        let page = own
            .filter(|page| page.text().is_some())
            .or_else(|| route?.errors.find(status))
            .or_else(|| active.errors.find(status));
        let json = prefers_json(request.get_all(&ACCEPT)) && !page.is_some_and(Page::is_json);
        if page.is_none() && !json {
            return;
        }
        let id = self.id.get_or_insert_with(RequestId::generate);
        if json {
            message.set_json_error(id);
        } else if let Some(page) = page {
            TemplateValues::new(self, request, tls).set_page(message, page);
        }
        message
            .fields
            .append(VARY, HeaderValue::from_static("Accept"));
    }
}

impl LocalMessage {
    /// Whether the proxy refuses or fails a request with this response.
    fn is_error(&self) -> bool {
        // Routes respond with any status, but their requests are complete.
        self.status() >= 400
            && !self.is_of_service
            && self.termination() != TerminationReason::Complete
    }

    fn set_json_error(&mut self, id: &RequestId) {
        let id = String::from_utf8_lossy(id.as_bytes());
        let reason = self.reason();
        let error = JsonError {
            status: self.status(),
            error: &String::from_utf8_lossy(&reason),
            request_id: &id,
        };
        // Numbers and texts always have a form in JSON.
        let mut body = serde_json::to_vec(&error).unwrap_or_default();
        body.push(b'\n');
        let media_type = HeaderValue::from_static("application/json");
        self.set_body(media_type, Bytes::from(body));
    }
}

/// Whether a client would rather have JSON than HTML. It has to name JSON: a client that takes anything is not asking for
/// it. Of equal qualities, HTML counts only if the client names it as well.
fn prefers_json<'a>(accepted: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut json, mut html, mut any) = (None, None, None);
    let ranges = accepted.flat_map(|value| value.split(|&byte| byte == b','));
    for range in ranges {
        let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(quality).unwrap_or(FULL_QUALITY);
        let best = match name.as_slice() {
            b"application/json" => &mut json,
            name if name.ends_with(b"+json") => &mut json,
            b"text/html" | b"application/xhtml+xml" => &mut html,
            b"text/*" | b"*/*" => &mut any,
            _ => continue,
        };
        *best = (*best).max(Some(quality));
    }
    match (json.filter(|quality| *quality > 0), html) {
        (None, _) => false,
        (json, Some(_)) => json > html,
        (json, None) => json >= any,
    }
}

/// The value of `q` in thousandths; `None` for another parameter.
fn quality(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let number = str::from_utf8(value).ok()?.trim().parse::<f32>().ok();
    // An invalid quality counts as none at all.
    let number = number.filter(|number| (0.0..=1.0).contains(number));
    Some((number.unwrap_or(0.0) * f32::from(FULL_QUALITY)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_to_clients_that_name_it_and_do_not_prefer_html() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, expected) in [
            (&[][..], false),
            (&["*/*"], false),
            (&[browser], false),
            (&["application/*"], false),
            (&["application/json"], true),
            (&["Application/JSON;charset=utf-8"], true),
            (&["application/problem+json; q=0.5"], true),
            (&["application/json, text/plain, */*"], true),
            (&["application/json;q=0.5, */*"], false),
            (&["application/json, text/html"], false),
            (&["text/html;q=0.9, application/json"], true),
            (&["text/html", "application/json;q=0.9"], false),
            (&["text/html;q=0.1", "application/json;q=0.9"], true),
            (&["application/json;q=0"], false),
            (&["application/json;q=x"], false),
            (&["application/json;q"], true),
            (&[",;,=", "é"], false),
        ] {
            let values = accept.iter().map(|value| value.as_bytes());
            assert_eq!(prefers_json(values), expected, "{accept:?}");
        }
    }
}
