//! `request_headers` and `response_headers`: what a route changes of the header fields that pass.

use http::header;
use serde_json::json;

use crate::config::field_name::{FieldName, editable_field};
use crate::config::fields_file::{FieldsFile, fields_file};
use crate::config::hints::quote;
use crate::config::schema::{Kind, List, Scalar, list, scalar, section, table};
use crate::config::template::{Template, Variable, template};

/// Entries in each of the maps and lists.
const MAX_EDITS: usize = 64;

section! {
    /// What is changed of the header fields of a message: first `remove`, then `set` and `set_file`, then `add`.
    pub struct HeaderEdits: Eq, Default {
        /// Fields with their values, instead of those that there are. {client_ip}, {host}, {method}, {path}, {pool}, {query},
        /// {request_id}, {scheme}, {upstream} and {uri} stand for those of the request, {user} for the one of `basic_auth`,
        /// {client_verify} for SUCCESS or NONE where the listener asks for certificates, and {client_subject} for the name in
        /// the client's.
        set: Vec<(FieldName, Template)> { fields(editable_field), default "{}" },
        /// A file with further fields to set, for values that are secret: a line for each, as in `authorization: Bearer secret`.
        /// It is read again at each reload.
        set_file: Option<FieldsFile> { fields_file(editable_field), optional "/etc/ballast/host.headers" },
        /// Fields with their values, beside those that there are.
        add: Vec<(FieldName, Template)> { fields(not_host), default "{}" },
        /// Names of fields that do not pass.
        remove: Vec<FieldName> { names(), default "[]" },
    }
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set_names().next().is_none() && self.add.is_empty() && self.remove.is_empty()
    }

    /// The names of the fields that are set.
    pub(crate) fn set_names(&self) -> impl Iterator<Item = &FieldName> {
        let in_file = self.set_file.iter().flat_map(|file| &file.fields);
        let names = self.set.iter().map(|(name, _)| name);
        names.chain(in_file.map(|(name, _)| name))
    }
}

/// The variables in values.
const VARIABLES: &[Variable] = &[
    Variable::ClientIp,
    Variable::ClientSubject,
    Variable::ClientVerify,
    Variable::Host,
    Variable::Method,
    Variable::Path,
    Variable::Pool,
    Variable::Query,
    Variable::RequestId,
    Variable::Scheme,
    Variable::Upstream,
    Variable::Uri,
    Variable::User,
];

/// A name of fields of which a message may have none or several.
fn not_host(text: &str) -> Result<FieldName, String> {
    let field = editable_field(text)?;
    match field.name == header::HOST {
        true => Err(format!(
            "a request has one {} field; change it with `set`",
            quote(text)
        )),
        false => Ok(field),
    }
}

fn fields(
    read_name: fn(&str) -> Result<FieldName, String>,
) -> impl Kind<Value = Vec<(FieldName, Template)>> {
    let value = template("a value", VARIABLES, |text| {
        let wrong = |c: &char| c.is_control() && *c != '\t';
        match text.chars().find(wrong) {
            Some(wrong) => Err(format!(
                "{} has {wrong:?} in it, which no header field may have",
                quote(text)
            )),
            None => Ok(()),
        }
    });
    let dump = |name: &FieldName| name.written.clone();
    table("a map of header fields", MAX_EDITS, read_name, dump, value)
}

fn names() -> List<Scalar<FieldName>> {
    let name = scalar(
        "the name of a header field",
        not_host,
        |name: &FieldName| json!(name.written),
    );
    list("names", name).up_to(MAX_EDITS)
}
