//! Files that hold header fields, for values that are secret.

use std::path::PathBuf;

use http::HeaderValue;
use serde_json::json;

use super::environment::without_bom;
use super::field_name::FieldName;
use super::schema::{Reader, Scalar, file};

/// Header fields that are in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldsFile {
    /// The file.
    pub file: PathBuf,
    /// The fields in it.
    pub fields: Vec<(FieldName, HeaderValue)>,
}

/// The path of a file with a line for each field. Dumps show the path alone.
pub(super) fn fields_file(read_name: fn(&str) -> Result<FieldName, String>) -> Scalar<FieldsFile> {
    let read = move |path: PathBuf, reader: &Reader<'_>| {
        let shown = path.display();
        let content = reader.environment.read(&path);
        let content = content.map_err(|error| format!("cannot read `{shown}`: {error}"))?;
        let text = std::str::from_utf8(without_bom(&content))
            .map_err(|_| format!("`{shown}` is not UTF-8 text"))?;
        let lines = (1..).zip(text.lines());
        let lines = lines.filter(|(_, line)| !line.trim().is_empty());
        let fields = lines.map(|(number, line)| {
            let field = match line.split_once(':') {
                Some((name, value)) => secret_field(name.trim(), value.trim(), read_name),
                None => Err("there is no colon; write it as in `name: value`".to_owned()),
            };
            field.map_err(|problem| format!("line {number} of `{shown}`: {problem}"))
        });
        let fields = fields.collect::<Result<Vec<_>, String>>()?;
        Ok(FieldsFile {
            fields,
            file: path.clone(),
        })
    };
    file("the path of a file", read, |fields: &FieldsFile| {
        json!(fields.file)
    })
}

/// A field whose value is not shown anywhere.
pub(super) fn secret_field(
    name: &str,
    value: &str,
    read_name: impl Fn(&str) -> Result<FieldName, String>,
) -> Result<(FieldName, HeaderValue), String> {
    let name = read_name(name)?;
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| "the value of a header field must have visible characters only".to_owned())?;
    value.set_sensitive(true);
    Ok((name, value))
}
