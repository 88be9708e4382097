//! `paths`: how the paths of requests are read.

use super::schema::{choice, section};

section! {
    /// `paths`: how the paths of requests are read.
    pub struct Paths: Copy, Eq {
        /// Paths that hosts read in several ways: %2f, %5c, %3b, encoded control characters, invalid or overlong
        /// encodings, dot segments above the root, with parameters or beside `\` or after `//`, and `//example.com/`.
        /// `reject`: 400. `pass`: routes see the normal form, in which these stay encoded, so `/admin%2fx` is not below
        /// /admin. `auto`: 400 if any route for the request's host has allow, deny, rate,
        /// client, basic_auth or auth.
        ambiguous: Ambiguous {
            choice(&[
                ("auto", Ambiguous::Auto),
                ("reject", Ambiguous::Reject),
                ("pass", Ambiguous::Pass),
            ]),
            default "auto"
        },
    }
}

/// What becomes of a request whose path hosts read in several ways, such as `/a%2fb`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ambiguous {
    /// 400 if a route for its host, whatever the path, has `allow`, `deny`, `rate`, `client`, `basic_auth` or `auth`.
    #[default]
    Auto,
    /// 400.
    Reject,
    /// It passes.
    Pass,
}
