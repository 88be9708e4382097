//! HTTP Basic authentication (RFC 7617).

use http::HeaderValue;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};

use super::password_check::{PasswordChecker, Verdict};
use crate::config::BasicAuth;
use crate::message::{BasicCredentials, RequestView};
use crate::proxy::local_message::LocalMessage;
use crate::proxy::local_response::LocalResponse;

/// The name of the user whose password the request has, or the response to a request without one.
pub(super) async fn authenticate(
    checker: &PasswordChecker,
    config: &BasicAuth,
    request: RequestView<'_>,
) -> Result<Vec<u8>, Box<LocalMessage>> {
    // Of two fields the proxy might believe one, and the host the other.
    let is_single = request.get_all(&AUTHORIZATION).count() == 1;
    let Some(claimed) = BasicCredentials::of(request).filter(|_| is_single) else {
        return Err(unauthorized(&config.realm));
    };
    match checker.check(&config.file, &claimed).await {
        Verdict::Right => Ok(claimed.name),
        Verdict::Wrong => Err(unauthorized(&config.realm)),
        Verdict::Busy => Err(LocalResponse::TOO_MANY_PASSWORDS.into()),
    }
}

fn unauthorized(realm: &str) -> Box<LocalMessage> {
    let mut message = Box::<LocalMessage>::from(LocalResponse::UNAUTHORIZED);
    // The realm has no control characters, so this is always a value.
    if let Ok(challenge) = HeaderValue::from_bytes(challenge(realm).as_bytes()) {
        message.fields.insert(WWW_AUTHENTICATE, challenge);
    }
    message
}

fn challenge(realm: &str) -> String {
    let quoted = realm.replace('\\', r"\\").replace('"', r#"\""#);
    format!(r#"Basic realm="{quoted}", charset="UTF-8""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_cannot_close_its_quotes() {
        assert_eq!(
            challenge(r#"a "b" \c"#),
            r#"Basic realm="a \"b\" \\c", charset="UTF-8""#
        );
    }
}
