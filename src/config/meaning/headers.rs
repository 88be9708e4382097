//! `headers`: what becomes of header fields on the way.

use http::header::{self, HeaderName};

use super::super::errors::Problems;
use super::super::model::{ClientIdentity, Headers, Underscores};
use super::super::place::Place;
use super::super::words::{choice, quote};
use super::super::yaml;

/// The word for no Via at all.
const NONE: &str = "none";
/// A name is sent with every message.
const LONGEST_NAME: usize = 64;

pub(super) fn headers(said: yaml::Headers, place: &Place, problems: &mut Problems) -> Headers {
    let yaml::Headers {
        underscores,
        via,
        client_identity,
    } = said;
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
        client_identity: identity(client_identity, &place.key("client_identity"), problems),
    }
}

/// Fields that say how a message is made up or where it goes; a request without them is another one.
const NEEDED: [HeaderName; 8] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
];
/// Fields that this proxy sets, so that a client's own cannot pass.
const SET: [&str; 5] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
];
/// Names in one list; each field of each request is compared with all of them.
const MOST_NAMES: usize = 64;

fn identity(said: yaml::ClientIdentity, place: &Place, problems: &mut Problems) -> ClientIdentity {
    let yaml::ClientIdentity { drop, pass } = said;
    let drop = names(drop, &place.key("drop"), problems, dropped);
    let pass_place = place.key("pass");
    let pass = names(pass, &pass_place, problems, passed);
    for name in pass.iter().filter(|name| drop.contains(name)) {
        let message = format!("`{name}` is in `drop` as well");
        problems.add(&pass_place, message);
    }
    ClientIdentity { drop, pass }
}

fn names(
    said: Vec<String>,
    place: &Place,
    problems: &mut Problems,
    read: fn(&str) -> Result<HeaderName, String>,
) -> Vec<HeaderName> {
    if said.len() > MOST_NAMES {
        let count = said.len();
        problems.add(
            place,
            format!("there are {count} names; at most {MOST_NAMES} are taken"),
        );
        return Vec::new();
    }
    let read = said.iter().enumerate().filter_map(|(index, text)| {
        let name = read(text);
        problems.take(&place.index(index), name)
    });
    read.collect()
}

fn field_name(text: &str) -> Result<HeaderName, String> {
    if text.starts_with(':') {
        return Err(format!(
            "{} is a pseudo-header of HTTP/2, which no client can lie about itself with",
            quote(text)
        ));
    }
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{} is not the name of a header field", quote(text)))
}

fn dropped(text: &str) -> Result<HeaderName, String> {
    let name = field_name(text)?;
    match NEEDED.contains(&name) || name == "keep-alive" || name == "proxy-connection" {
        true => Err(format!(
            "{} says how a request is sent, and cannot be dropped",
            quote(text)
        )),
        false => Ok(name),
    }
}

fn passed(text: &str) -> Result<HeaderName, String> {
    let name = field_name(text)?;
    let plain = name.as_str().replace('_', "-");
    if SET.contains(&plain.as_str()) {
        return Err(format!(
            "{} is set by this proxy, so a client's own cannot pass; list the clients that may set it in `trusted_proxies`",
            quote(text)
        ));
    }
    if plain == "proxy" {
        return Err(format!(
            "{} is taken for the variable HTTP_PROXY by CGI programs, and never passes (httpoxy)",
            quote(text)
        ));
    }
    if !crate::identity_fields::is_known(name.as_str().as_bytes()) {
        return Err(format!(
            "{} passes anyway; only a field that is dropped by default can stand here",
            quote(text)
        ));
    }
    Ok(name)
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
