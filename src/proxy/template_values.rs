//! The values of a request for the templates of the configuration.

use bytes::Bytes;
use http::HeaderValue;

use super::context::RequestContext;
use super::forwarding::request_id::RequestId;
use super::local_message::LocalMessage;
use super::request_target::RequestTarget;
use crate::address_text::AddressText;
use crate::client_certificate::ClientVerification;
use crate::config::{Page, Redirect, Respond, Template, Variable, is_json};
use crate::message::RequestView;
use crate::normalize;
use crate::record::TerminationReason;

/// A request whose values templates get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TemplateValues<'a> {
    ctx: &'a RequestContext,
    request: RequestView<'a>,
    tls: bool,
    /// The status of the response, if it is known.
    status: Option<u16>,
    /// What is wrong with the request.
    message: &'a [u8],
}

/// How a value is written into a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escaping {
    None,
    /// Markup of HTML and XML becomes references.
    Markup,
    /// As within a JSON string.
    Json,
}

impl<'a> TemplateValues<'a> {
    /// The values of `request`. `tls`: whether its connection is encrypted.
    pub(crate) fn new(ctx: &'a RequestContext, request: RequestView<'a>, tls: bool) -> Self {
        TemplateValues {
            ctx,
            request,
            tls,
            status: None,
            message: b"",
        }
    }

    /// Appends the value of a variable. It has no control characters: the request has none either.
    pub(crate) fn append(&self, variable: Variable, out: &mut Vec<u8>) {
        let target = || RequestTarget::of(self.request);
        let ctx = self.ctx;
        match variable {
            Variable::ClientIp => {
                let client = ctx.origin.and_then(|origin| origin.client);
                let client = client.map(AddressText::new);
                out.extend_from_slice(client.as_ref().map_or(b"", AddressText::as_bytes));
            }
            Variable::Host => out.extend_from_slice(normalize::encoded_host(target().authority)),
            Variable::RequestId => {
                let id = ctx.id.as_ref().map(RequestId::as_bytes);
                out.extend_from_slice(id.unwrap_or_default());
            }
            Variable::Scheme => out.extend_from_slice(match self.is_https() {
                true => b"https",
                false => b"http",
            }),
            Variable::Uri => {
                out.extend_from_slice(&target().without_authority(self.request.method));
            }
            Variable::Path => {
                let uri = target().without_authority(self.request.method);
                let end = uri.iter().position(|&byte| byte == b'?');
                out.extend_from_slice(&uri[..end.unwrap_or(uri.len())]);
            }
            Variable::Query => out.extend_from_slice(target().query()),
            Variable::Method => out.extend_from_slice(self.request.method.as_str().as_bytes()),
            Variable::Pool => {
                let pool = ctx.has_pool.then(|| ctx.pool().name());
                out.extend_from_slice(pool.unwrap_or_default().as_bytes());
            }
            Variable::Upstream => {
                let lease = ctx.lease.as_ref();
                let host = lease.map(|lease| lease.member().host_header());
                out.extend_from_slice(host.map_or(b"", |host| host.as_bytes()));
            }
            Variable::Status => {
                let status = self.status.map(|status| status.to_string());
                out.extend_from_slice(status.unwrap_or_default().as_bytes());
            }
            Variable::User => {
                let client = ctx.authenticated.as_ref();
                out.extend_from_slice(client.map_or(b"", |client| &client.user));
            }
            Variable::ClientVerify => {
                let verdict = ctx.verification().map(ClientVerification::verdict);
                out.extend_from_slice(verdict.unwrap_or_default().as_bytes());
            }
            Variable::ClientSubject => {
                let subject = ctx.verification().and_then(ClientVerification::subject);
                out.extend_from_slice(subject.unwrap_or_default().as_bytes());
            }
            Variable::Message => out.extend_from_slice(self.message),
        }
    }

    /// Whether the client used https, as far as trusted proxies tell.
    pub(super) fn is_https(&self) -> bool {
        self.ctx.is_https(self.request, self.tls)
    }

    /// The text of a template.
    pub(crate) fn render(&self, template: &Template) -> Vec<u8> {
        let mut out = Vec::with_capacity(template.text().len() + 64);
        self.render_into(template, &mut out);
        out
    }

    /// Replaces what `out` has by the text of a template.
    pub(crate) fn render_into(&self, template: &Template, out: &mut Vec<u8>) {
        out.clear();
        template.render(out, |variable, out| self.append(variable, out));
    }

    /// The redirect for this request.
    pub(super) fn redirect(&self, redirect: &Redirect) -> LocalMessage {
        let mut location = self.render(&redirect.to);
        let is_path = location.first().is_some_and(|&byte| is_slash(byte));
        if is_path && location.get(1).is_some_and(|&byte| is_slash(byte)) {
            // `//name/` and `/\name/` lead to another site, which the request would have chosen.
            let end = location.iter().position(|&byte| !is_slash(byte));
            location.splice(..end.unwrap_or(location.len()), [b'/']);
        }
        redirect_to(redirect.status, &location)
    }

    /// The redirect to the same URL over https, on the usual port.
    pub(super) fn https_redirect(&self) -> LocalMessage {
        let mut location = b"https://".to_vec();
        self.append(Variable::Host, &mut location);
        self.append(Variable::Uri, &mut location);
        redirect_to(308, &location)
    }

    /// The response that the configuration has for this request.
    pub(super) fn respond(&self, respond: &Respond) -> LocalMessage {
        let mut message = LocalMessage::new(TerminationReason::Complete, respond.status);
        self.set_page(&mut message, &respond.page);
        message
    }

    /// Makes a page the body of a response, if the page has a text.
    pub(super) fn set_page(&self, message: &mut LocalMessage, page: &Page) {
        let Some(text) = page.text() else { return };
        let media_type = page.media_type();
        let reason = message.reason();
        let values = TemplateValues {
            status: Some(message.status),
            message: &reason,
            ..*self
        };
        let escaping = Escaping::of(media_type.as_bytes());
        let mut body = Vec::with_capacity(text.text().len() + 64);
        let mut value = Vec::new();
        text.render(&mut body, |variable, out| {
            value.clear();
            values.append(variable, &mut value);
            escaping.append(&value, out);
        });
        message.set_body(media_type, Bytes::from(body));
    }
}

fn redirect_to(status: u16, location: &[u8]) -> LocalMessage {
    match HeaderValue::from_bytes(location) {
        Ok(location) => LocalMessage::redirect(status, location),
        // Unreachable: a request with control characters has been refused before.
        Err(_) => LocalMessage::new(TerminationReason::BadRequest, 400),
    }
}

/// Browsers read a backslash in a URL as a slash.
fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

impl Escaping {
    /// What values need in a body of this type: a request must not be able to write markup into a page.
    fn of(media_type: &[u8]) -> Self {
        let end = media_type.iter().position(|&byte| byte == b';');
        let essence = media_type[..end.unwrap_or(media_type.len())].trim_ascii();
        let ends_with = |ending: &[u8]| {
            let from = essence.len().checked_sub(ending.len());
            from.is_some_and(|from| essence[from..].eq_ignore_ascii_case(ending))
        };
        if is_json(media_type) {
            Escaping::Json
        } else if ends_with(b"html") || ends_with(b"xml") {
            Escaping::Markup
        } else {
            Escaping::None
        }
    }

    fn append(self, value: &[u8], out: &mut Vec<u8>) {
        match self {
            Escaping::None => out.extend_from_slice(value),
            Escaping::Markup => {
                for &byte in value {
                    match byte {
                        b'&' => out.extend_from_slice(b"&amp;"),
                        b'<' => out.extend_from_slice(b"&lt;"),
                        b'>' => out.extend_from_slice(b"&gt;"),
                        b'"' => out.extend_from_slice(b"&quot;"),
                        b'\'' => out.extend_from_slice(b"&#39;"),
                        _ => out.push(byte),
                    }
                }
            }
            Escaping::Json => {
                let quoted = serde_json::Value::from(String::from_utf8_lossy(value)).to_string();
                // Without the quotes, which the template has.
                out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_write_markup_or_end_a_json_string() {
        for (media_type, expected) in [
            (
                "text/html; charset=utf-8",
                "&lt;b a=&quot;&#39;\\&quot;&gt;&amp;",
            ),
            ("image/svg+xml", "&lt;b a=&quot;&#39;\\&quot;&gt;&amp;"),
            ("application/problem+JSON", r#"<b a=\"'\\\">&"#),
            ("text/plain", r#"<b a="'\">&"#),
        ] {
            let mut out = Vec::new();
            Escaping::of(media_type.as_bytes()).append(br#"<b a="'\">&"#, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{media_type}");
        }
    }
}
