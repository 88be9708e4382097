//! What a route changes of requests and responses on the way.

use http::HeaderName;
use http::header::{
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use pingora::Result;

use super::header_editor::HeaderEditor;
use super::path_rewrite::{PathRestorer, rewrite_target};
use crate::config::{HeaderEdits, Route};
use crate::message::{FieldsView, RequestView};
use crate::proxy::context::RequestContext;
use crate::proxy::local_message::LocalMessage;
use crate::proxy::request_target::RequestTarget;
use crate::proxy::template_values::TemplateValues;

/// Fields of `security_headers`, with the names that HTTP/1.1 writes.
const SECURITY_FIELDS: [(HeaderName, &str, &str); 3] = [
    (X_CONTENT_TYPE_OPTIONS, "X-Content-Type-Options", "nosniff"),
    (X_FRAME_OPTIONS, "X-Frame-Options", "SAMEORIGIN"),
    (
        REFERRER_POLICY,
        "Referrer-Policy",
        "strict-origin-when-cross-origin",
    ),
];

/// The value of Strict-Transport-Security: a year.
const TRANSPORT_SECURITY: &str = "max-age=31536000";

/// The changes of one route for one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteEdits<'a> {
    route: &'a Route,
    values: TemplateValues<'a>,
    restorer: Option<PathRestorer<'a>>,
}

impl RequestContext {
    /// The route that has matched.
    pub(crate) fn route(&self) -> Option<&Route> {
        self.active.routes.get(self.route?)
    }

    /// What the route changes of the request. `None`: nothing. `tls`: whether the client's connection is encrypted.
    pub(crate) fn request_edits<'a>(
        &'a self,
        request: RequestView<'a>,
        tls: bool,
    ) -> Option<RouteEdits<'a>> {
        let route = self.route().filter(|route| route.edits_requests())?;
        Some(RouteEdits {
            route,
            values: TemplateValues::new(self, request, tls),
            restorer: None,
        })
    }

    /// What the route changes of the response. `None`: nothing.
    pub(crate) fn response_edits<'a>(
        &'a self,
        request: RequestView<'a>,
        tls: bool,
    ) -> Option<RouteEdits<'a>> {
        let route = self.route().filter(|route| route.edits_responses())?;
        let restorer = || {
            let host = self
                .lease
                .as_ref()
                .map(|lease| lease.member().host_header());
            let host = host.map_or(&b""[..], |host| host.as_bytes());
            PathRestorer::new(&route.rewrite, RequestTarget::of(request).authority, host)
        };
        Some(RouteEdits {
            route,
            values: TemplateValues::new(self, request, tls),
            restorer: (!route.rewrite.is_empty()).then(restorer).flatten(),
        })
    }

    /// Gives a response of the proxy's own its page, and changes it as the route changes those of hosts.
    pub(crate) fn edit_local(
        &mut self,
        message: &mut LocalMessage,
        request: RequestView<'_>,
        tls: bool,
    ) {
        match self.grpc {
            Some(_) => self.answer_call(message),
            None => self.set_error_page(message, request, tls),
        }
        let Some(edits) = self.response_edits(request, tls) else {
            return;
        };
        let received = message.fields.clone();
        // It fails for values with control characters, which the configuration and requests have been checked for.
        let _ = edits.edit_response((&received).into(), message);
    }
}

impl RouteEdits<'_> {
    /// The target that the host gets. `None`: it stays.
    pub(crate) fn target(&self, target: &[u8]) -> Option<Vec<u8>> {
        rewrite_target(&self.route.rewrite, &self.values, target)
    }

    /// Changes the fields of a request.
    pub(crate) fn edit_request(&self, request: &mut impl HeaderEditor) -> Result<()> {
        self.edit(&self.route.request_headers, request)
    }

    /// The value that the client gets of a field of the host's response. `None`: it stays.
    pub(crate) fn restored(&self, name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        self.restorer.as_ref()?.restore(name, value)
    }

    /// Whether values of response fields may have to be restored.
    pub(crate) fn restores(&self) -> bool {
        self.restorer.is_some()
    }

    /// Changes the fields of a response. `received`: those that it has.
    pub(crate) fn edit_response(
        &self,
        received: FieldsView<'_>,
        response: &mut impl HeaderEditor,
    ) -> Result<()> {
        if self.route.security_headers {
            for (name, written, value) in SECURITY_FIELDS {
                if !received.contains(&name) {
                    response.set(written, value.as_bytes())?;
                }
            }
            if self.values.is_https() && !received.contains(&STRICT_TRANSPORT_SECURITY) {
                response.set("Strict-Transport-Security", TRANSPORT_SECURITY.as_bytes())?;
            }
        }
        self.edit(&self.route.response_headers, response)
    }

    fn edit(&self, edits: &HeaderEdits, message: &mut impl HeaderEditor) -> Result<()> {
        for field in &edits.remove {
            message.remove(&field.name);
        }
        let mut value = Vec::new();
        for (field, template) in &edits.set {
            self.values.render_into(template, &mut value);
            message.set_configured(field, &value)?;
        }
        for (field, value) in edits.set_file.iter().flat_map(|file| &file.fields) {
            message.set_configured(field, value.as_bytes())?;
        }
        for (field, template) in &edits.add {
            self.values.render_into(template, &mut value);
            message.append_configured(field, &value)?;
        }
        Ok(())
    }
}
