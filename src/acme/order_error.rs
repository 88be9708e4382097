//! Why an order failed.

use std::fmt::Display;

use instant_acme::{Error, Problem};

/// Characters of an error that are kept. An authority may write anything.
const MAX_CHARS: usize = 500;

const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// Why an order failed.
#[derive(Debug)]
pub(super) struct OrderError {
    /// One line for a person.
    pub(super) message: String,
    pub(super) scope: ErrorScope,
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorScope {
    /// This order; others may succeed.
    Order,
    /// All orders: the authority cannot be reached, or limits the rate of orders.
    Authority,
    /// The authority does not know the account.
    Account,
    /// The authority has refused several nonces in a row, which says nothing about the order (RFC 8555 6.5).
    Nonce,
}

impl OrderError {
    /// An error of one order.
    pub(super) fn of_order(message: impl Display) -> Self {
        OrderError::new(ErrorScope::Order, message)
    }

    /// An error that every order would have.
    pub(super) fn of_authority(message: impl Display) -> Self {
        OrderError::new(ErrorScope::Authority, message)
    }

    fn new(scope: ErrorScope, message: impl Display) -> Self {
        OrderError {
            message: shown(&message.to_string()),
            scope,
        }
    }
}

impl From<Error> for OrderError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => problem.into(),
            Error::Timeout(_) => OrderError::of_order("the authority has not decided in time"),
            Error::Crypto | Error::KeyRejected => {
                OrderError::of_authority("the key of the account cannot be used")
            }
            error => OrderError::of_authority(error),
        }
    }
}

impl From<Problem> for OrderError {
    fn from(problem: Problem) -> Self {
        let scope = match problem.r#type.as_deref() {
            Some(RATE_LIMITED) => ErrorScope::Authority,
            Some(NO_ACCOUNT) => ErrorScope::Account,
            Some(BAD_NONCE) => ErrorScope::Nonce,
            _ => ErrorScope::Order,
        };
        OrderError::new(scope, describe(&problem))
    }
}

/// A problem as the authority describes it, with those of single names.
pub(super) fn describe(problem: &Problem) -> String {
    let detail = problem.detail.as_deref().unwrap_or("no reason given");
    let kind = problem.r#type.as_deref().unwrap_or_default();
    let kind = kind
        .strip_prefix("urn:ietf:params:acme:error:")
        .unwrap_or(kind);
    let mut text = format!("{detail} ({kind})");
    for part in &problem.subproblems {
        let detail = part.detail.as_deref().unwrap_or_default();
        text.push_str(&format!("; {detail}"));
    }
    text
}

/// A text of limited length on one line.
fn shown(text: &str) -> String {
    let is_unfit = |c: char| c.is_control();
    let mut shown: String = text.chars().take(MAX_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.replace(is_unfit, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_authority_writes_is_short_and_on_one_line() {
        let problem = |kind: &str, detail: String| Problem {
            r#type: Some(format!("urn:ietf:params:acme:error:{kind}")),
            detail: Some(detail),
            status: None,
            subproblems: Vec::new(),
        };
        let error = OrderError::from(problem("dns", "no\n\u{1b}[31m such name".to_owned()));
        assert_eq!(error.message, "no  [31m such name (dns)");
        assert_eq!(error.scope, ErrorScope::Order);
        let long = OrderError::from(problem("rateLimited", "x".repeat(10_000)));
        assert_eq!(long.message.chars().count(), MAX_CHARS + 1);
        assert_eq!(long.scope, ErrorScope::Authority);
        let unknown = OrderError::from(problem("accountDoesNotExist", String::new()));
        assert_eq!(unknown.scope, ErrorScope::Account);
        let nonce = OrderError::from(problem("badNonce", String::new()));
        assert_eq!(nonce.scope, ErrorScope::Nonce);
    }
}
