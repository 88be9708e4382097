//! HTTP Basic authentication (RFC 7617).

use http::HeaderValue;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};

use super::password_check::{PasswordChecker, Verdict};
use crate::config::BasicAuth;
use crate::message::{BasicCredentials, RequestView};
use crate::proxy::local_message::LocalMessage;
use crate::proxy::local_response::LocalResponse;

/// The response to a request without the name and the password of a user.
pub(super) async fn refuse(
    checker: &PasswordChecker,
    config: &BasicAuth,
    request: RequestView<'_>,
) -> Option<Box<LocalMessage>> {
    // Of two fields the proxy might believe one, and the host the other.
    let is_single = request.get_all(&AUTHORIZATION).count() == 1;
    let verdict = match BasicCredentials::of(request).filter(|_| is_single) {
        Some(credentials) => checker.check(&config.file, credentials).await,
        None => Verdict::Wrong,
    };
    match verdict {
        Verdict::Right => None,
        Verdict::Wrong => {
            let mut message = Box::<LocalMessage>::from(LocalResponse::UNAUTHORIZED);
            // The realm has no control characters, so this is always a value.
            if let Ok(challenge) = HeaderValue::from_bytes(challenge(&config.realm).as_bytes()) {
                message.fields.insert(WWW_AUTHENTICATE, challenge);
            }
            Some(message)
        }
        Verdict::Busy => Some(LocalResponse::TOO_MANY_PASSWORDS.into()),
    }
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
