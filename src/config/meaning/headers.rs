//! `headers`: what becomes of header fields on the way.

use super::super::errors::Problems;
use super::super::model::{Headers, Underscores};
use super::super::place::Place;
use super::super::words::{choice, quote};
use super::super::yaml;

/// The word for no Via at all.
const NONE: &str = "none";
/// A name is sent with every message.
const LONGEST_NAME: usize = 64;

pub(super) fn headers(said: yaml::Headers, place: &Place, problems: &mut Problems) -> Headers {
    let yaml::Headers { underscores, via } = said;
    let choices = [("drop", Underscores::Drop), ("pass", Underscores::Pass)];
    Headers {
        underscores: problems.value(
            &place.key("underscores"),
            underscores.0,
            Underscores::Drop,
            |text| choice(text, &choices),
        ),
        via: problems.value(
            &place.key("via"),
            via.0,
            Some("ballast".to_owned()),
            pseudonym,
        ),
    }
}

/// Reads a name for the Via field; `None` is for none.
fn pseudonym(text: &str) -> Result<Option<String>, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text == NONE {
        Ok(None)
    } else if text.is_empty() || text.len() > LONGEST_NAME || !text.bytes().all(is_token) {
        Err(format!(
            "{} is not a name of letters, digits and `-._`, at most {LONGEST_NAME}, nor `{NONE}`",
            quote(text)
        ))
    } else {
        Ok(Some(text.to_owned()))
    }
}
