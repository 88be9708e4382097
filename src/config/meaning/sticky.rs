//! `sticky`: the cookie that keeps a client with its host.

use std::time::Duration;

use super::super::errors::Problems;
use super::super::model::{SameSite, Secure, Sticky};
use super::super::place::Place;
use super::super::words::{choice, quote, time};
use super::super::yaml::{self, Form};
use super::{World, secret};

const TTL: Duration = Duration::from_secs(60 * 60);
/// A cookie's age is in whole seconds.
const SHORTEST_TTL: Duration = Duration::from_secs(1);

/// `None` if nothing is said, or `sticky: none`.
pub(super) fn sticky(
    said: Option<Form<yaml::Sticky>>,
    world: &World<'_>,
    place: &Place,
    problems: &mut Problems,
) -> Option<Sticky> {
    let said = match said? {
        Form::Full(said) => said,
        Form::Short(text) => {
            if text != "none" {
                let shown = quote(&text);
                problems.add(
                    place,
                    format!("{shown} is neither `none` nor a map such as `{{ cookie: NAME }}`"),
                );
            }
            return None;
        }
    };
    let yaml::Sticky {
        cookie,
        ttl,
        secure,
        http_only,
        same_site,
        secret_file,
    } = said;
    if cookie.0.is_none() {
        problems.add(place, "`cookie` is missing, the name of the cookie");
    }
    let before = problems.count();
    let cookie = problems.optional(&place.key("cookie"), cookie.0, self::name);
    let secure = problems.value(&place.key("secure"), secure.0, Secure::Auto, |text| {
        choice(
            text,
            &[
                ("auto", Secure::Auto),
                ("true", Secure::Always),
                ("false", Secure::Never),
            ],
        )
    });
    let same_site = problems.value(
        &place.key("same_site"),
        same_site.0,
        SameSite::Lax,
        |text| {
            choice(
                text,
                &[
                    ("strict", SameSite::Strict),
                    ("lax", SameSite::Lax),
                    ("none", SameSite::None),
                ],
            )
        },
    );
    if problems.count() == before && secure != Secure::Always {
        if same_site == SameSite::None {
            problems.add(
                &place.key("same_site"),
                "browsers take `SameSite=None` with `Secure` only; set `secure: true`",
            );
        }
        let name = cookie.as_deref().unwrap_or_default();
        if name.starts_with("__Host-") || name.starts_with("__Secure-") {
            let shown = quote(name);
            problems.add(
                &place.key("cookie"),
                format!("browsers take {shown} with `Secure` only; set `secure: true`"),
            );
        }
    }
    let ttl = problems.value(&place.key("ttl"), ttl.0, TTL, |text| match time(text)? {
        short if short < SHORTEST_TTL => Err(format!("{} is shorter than 1s", quote(text))),
        ttl => Ok(ttl),
    });
    let http_only = problems.value(&place.key("http_only"), http_only.0, true, |text| {
        choice(text, &[("true", true), ("false", false)])
    });
    let secret = secret_file.0.and_then(|file| {
        let secret = secret::secret(&world.path(&file), world.surroundings);
        problems.take(&place.key("secret_file"), secret)
    });
    Some(Sticky {
        cookie: cookie?,
        ttl,
        secure,
        http_only,
        same_site,
        secret,
    })
}

/// Reads the name of a cookie: a token, as RFC 6265 has it.
fn name(text: &str) -> Result<String, String> {
    let proper = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if !text.is_empty() && text.chars().all(proper) {
        return Ok(text.to_owned());
    }
    Err(format!("{} is not the name of a cookie", quote(text)))
}
