//! `basic_auth`: which clients a route lets in, by who they are.

use serde_json::json;

use crate::config::hints::quote;
use crate::config::password_file::{PasswordFile, password_file};
use crate::config::schema::{Scalar, map_of, scalar, section};

/// The longest realm, in bytes.
const MAX_REALM: usize = 255;

section! {
    /// How clients of a route tell who they are.
    pub struct Authentication: Eq, Default {
        /// Clients have to give a name and a password (HTTP Basic), before the route does anything. They
        /// are as readable as everything else in the request, so serve such a route over https alone. They reach the hosts
        /// too. A map, or the file alone.
        basic_auth: Option<BasicAuth> { map_of::<BasicAuth>().short_for("file"), optional "/etc/ballast/users" },
    }
}

section! {
    /// `basic_auth`: names and passwords.
    pub struct BasicAuth: Eq {
        /// The file with the users, as `htpasswd -B` writes it: a line with a name, a colon and a bcrypt hash for each. It is
        /// read again at each reload; at most 1 MiB, and costs up to 14. Passwords of more than 72 bytes are refused, because
        /// bcrypt would not look at the rest.
        file: PasswordFile { password_file(), required "/etc/ballast/users" },
        /// What browsers may show to say what the password is for. One password holds for all URLs with the same realm.
        realm: String { realm(), default "restricted" },
    }
}

impl Authentication {
    /// Whether clients have to tell who they are.
    pub fn is_required(&self) -> bool {
        self.basic_auth.is_some()
    }
}

fn realm() -> Scalar<String> {
    let read = |text: &str| {
        if text.is_empty() || text.len() > MAX_REALM {
            Err(format!(
                "{} is not a text of 1 to {MAX_REALM} bytes",
                quote(text)
            ))
        } else if let Some(wrong) = text.chars().find(|c| c.is_control()) {
            Err(format!(
                "{} has {wrong:?} in it, which no header field may have",
                quote(text)
            ))
        } else {
            Ok(text.to_owned())
        }
    };
    scalar("a text", read, |realm| json!(realm))
}
