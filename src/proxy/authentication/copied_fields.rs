//! Fields by which an authentication service tells the host who the client is.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::Result;

use crate::config::FieldName;
use crate::message::FieldsView;
use crate::proxy::forwarding::header_editor::HeaderEditor;
use crate::spoofable_headers::is_same_name;

/// The fields of a service's response that the host gets, and none of the client's by the same names.
#[derive(Debug, Default)]
pub(crate) struct CopiedFields {
    names: Vec<FieldName>,
    /// Each with an index into the names.
    values: Vec<(usize, HeaderValue)>,
}

impl CopiedFields {
    /// The fields with these names.
    pub(super) fn new(names: &[FieldName], response: &HeaderMap) -> Self {
        let values = names.iter().enumerate().flat_map(|(index, field)| {
            let values = response.get_all(&field.name).iter();
            values.map(move |value| (index, value.clone()))
        });
        CopiedFields {
            values: values.collect(),
            names: names.to_vec(),
        }
    }

    /// Replaces what the client has sent, in all spellings that a host may take for the same field.
    pub(crate) fn apply(
        &self,
        received: FieldsView<'_>,
        request: &mut impl HeaderEditor,
    ) -> Result<()> {
        for field in &self.names {
            request.remove(&field.name);
        }
        for (name, _) in received.iter() {
            let is_same = |field: &FieldName| is_same_name(name, field.name.as_str().as_bytes());
            if self.names.iter().any(is_same)
                && let Ok(name) = HeaderName::from_bytes(name)
            {
                request.remove(&name);
            }
        }
        for (index, value) in &self.values {
            request.append_configured(&self.names[*index], value.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pingora::http::RequestHeader;

    use super::*;

    #[test]
    fn fields_of_the_client_are_replaced_in_all_spellings() {
        let name = |text: &str| FieldName {
            written: text.to_owned(),
            name: HeaderName::from_bytes(text.as_bytes()).expect("a name"),
        };
        let mut response = HeaderMap::new();
        for value in ["one", "two"] {
            response.append("remote-groups", HeaderValue::from_static(value));
        }
        response.append("x-other", HeaderValue::from_static("not copied"));
        let names = [name("Remote-User"), name("Remote-Groups")];
        let copied = CopiedFields::new(&names, &response);
        let mut request = RequestHeader::build("GET", b"/", None).expect("a request");
        for field in [
            "Remote-User",
            "remote_user",
            "Remote_Groups",
            "REMOTE-GROUPS",
            "Remote-Users",
        ] {
            request.append_header(field, "client").expect("a field");
        }
        let received = request.clone();
        let applied = copied.apply((&received.headers).into(), &mut request);
        applied.expect("valid fields");
        let mut fields = Vec::from_iter(
            request
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))),
        );
        fields.sort();
        assert_eq!(
            fields,
            [
                "remote-groups: one",
                "remote-groups: two",
                "remote-users: client"
            ]
        );
    }
}
