//! The responses by which the proxy itself refuses or fails requests.

use std::time::Duration;

use crate::record::TerminationReason;

/// How long the rest of a request's body is read and discarded after the response. Closing at once would reset the
/// connection, and a client that is still sending would lose the response.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// A status with a short text as its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalResponse {
    /// Recorded as the reason why the request ended.
    pub(super) termination: TerminationReason,
    pub(super) status: u16,
    pub(super) text: &'static str,
    /// Value of Retry-After, in seconds.
    pub(super) retry_after: Option<u32>,
    /// Whether the response lists the allowed methods in Allow.
    pub(super) allow: bool,
}

impl LocalResponse {
    pub(crate) const NO_ROUTE: LocalResponse = LocalResponse::new(
        TerminationReason::NoRoute,
        404,
        "404 no route for this host and path\n",
    );
    pub(crate) const NO_HOST: LocalResponse = LocalResponse::new(
        TerminationReason::NoHost,
        503,
        "503 no host can take requests now\n",
    );
    pub(crate) const QUEUE_FULL: LocalResponse = LocalResponse {
        termination: TerminationReason::QueueFull,
        ..LocalResponse::OVERLOADED
    };
    pub(crate) const OVERLOADED: LocalResponse = LocalResponse {
        retry_after: Some(1),
        ..LocalResponse::new(
            TerminationReason::Overloaded,
            503,
            "503 too many requests at once\n",
        )
    };

    pub(crate) const BAD_TARGET: LocalResponse =
        LocalResponse::bad_request("400 the request's target is not valid\n");
    pub(crate) const AMBIGUOUS_PATH: LocalResponse =
        LocalResponse::bad_request("400 the request's path can be read in several ways\n");
    pub(crate) const BAD_HOST: LocalResponse =
        LocalResponse::bad_request("400 the request needs one valid Host field\n");
    pub(crate) const NO_TLS: LocalResponse =
        LocalResponse::bad_request("400 a plain HTTP request was sent to an HTTPS port\n");
    pub(crate) const BAD_LENGTH: LocalResponse =
        LocalResponse::bad_request("400 the request's Content-Length is not valid\n");
    pub(crate) const TWO_FRAMINGS: LocalResponse =
        LocalResponse::bad_request("400 the request has a Transfer-Encoding where it must not\n");
    pub(crate) const BAD_MAX_FORWARDS: LocalResponse =
        LocalResponse::bad_request("400 the request's Max-Forwards is not valid\n");
    pub(crate) const BAD_CONNECTION: LocalResponse =
        LocalResponse::bad_request("400 the request's Connection field is not valid\n");
    pub(crate) const NO_CONNECT: LocalResponse = LocalResponse {
        allow: true,
        ..LocalResponse::new(
            TerminationReason::BadRequest,
            405,
            "405 CONNECT is not served\n",
        )
    };
    pub(crate) const NO_TRACE: LocalResponse = LocalResponse {
        allow: true,
        ..LocalResponse::new(
            TerminationReason::BadRequest,
            405,
            "405 TRACE is not served\n",
        )
    };
    /// Response to OPTIONS with Max-Forwards 0, which must not be forwarded.
    pub(crate) const OPTIONS: LocalResponse = LocalResponse {
        allow: true,
        ..LocalResponse::new(TerminationReason::Complete, 200, "")
    };
    pub(crate) const BODY_TOO_LARGE: LocalResponse = LocalResponse::new(
        TerminationReason::TooLarge,
        413,
        "413 the request's body is too large\n",
    );
    pub(crate) const TARGET_TOO_LONG: LocalResponse = LocalResponse::new(
        TerminationReason::TooLarge,
        414,
        "414 the request's target is too long\n",
    );
    pub(crate) const HEAD_TOO_LARGE: LocalResponse = LocalResponse::new(
        TerminationReason::TooLarge,
        431,
        "431 the request's header fields are too large\n",
    );
    pub(crate) const TOO_MANY_FIELDS: LocalResponse = LocalResponse::new(
        TerminationReason::TooLarge,
        431,
        "431 the request has too many header fields\n",
    );
    pub(crate) const UNKNOWN_CODING: LocalResponse = LocalResponse::new(
        TerminationReason::BadRequest,
        501,
        "501 the request has a Transfer-Encoding other than chunked\n",
    );
    /// The challenge is added to it.
    pub(crate) const UNAUTHORIZED: LocalResponse = LocalResponse::new(
        TerminationReason::Unauthorized,
        401,
        "401 the name or the password is wrong or missing\n",
    );
    /// The authentication service gives no valid answer.
    pub(crate) const AUTH_FAILED: LocalResponse = LocalResponse {
        retry_after: Some(1),
        ..LocalResponse::new(
            TerminationReason::AuthFailed,
            503,
            "503 no client can be authenticated now\n",
        )
    };
    pub(crate) const TOO_MANY_PASSWORDS: LocalResponse = LocalResponse {
        retry_after: Some(1),
        ..LocalResponse::new(
            TerminationReason::Overloaded,
            503,
            "503 too many passwords are being checked\n",
        )
    };
    pub(crate) const NEEDS_HTTP_11: LocalResponse = LocalResponse::new(
        TerminationReason::BadRequest,
        505,
        "505 the hosts speak HTTP/2, which needs HTTP/1.1 of the client\n",
    );
    pub(crate) const NO_TUNNEL: LocalResponse = LocalResponse::new(
        TerminationReason::BadRequest,
        501,
        "501 the hosts speak HTTP/2, over which they are not asked for WebSockets\n",
    );
    pub(crate) const FORBIDDEN: LocalResponse = LocalResponse::new(
        TerminationReason::Denied,
        403,
        "403 not from this address\n",
    );
    pub(crate) const NO_CLIENT_CERTIFICATE: LocalResponse = LocalResponse::new(
        TerminationReason::Denied,
        403,
        "403 a client certificate is required\n",
    );

    /// `wait` is the time after which the client may retry.
    pub(crate) fn too_many_requests(wait: Duration) -> Self {
        LocalResponse {
            retry_after: Some(u32::try_from(ceil_seconds(wait)).unwrap_or(u32::MAX)),
            ..LocalResponse::new(
                TerminationReason::RateLimited,
                429,
                "429 too many requests\n",
            )
        }
    }

    const fn bad_request(text: &'static str) -> Self {
        LocalResponse::new(TerminationReason::BadRequest, 400, text)
    }

    const fn new(termination: TerminationReason, status: u16, text: &'static str) -> Self {
        LocalResponse {
            termination,
            status,
            text,
            retry_after: None,
            allow: false,
        }
    }

    /// The termination reason of a request that gets this response.
    pub(crate) fn termination(&self) -> TerminationReason {
        self.termination
    }

    /// Size of the body in bytes.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The response to a request that failed with this status.
    pub(crate) fn for_status(status: u16) -> Self {
        match status {
            400 => LocalResponse::bad_request("400 the request is malformed\n"),
            431 => LocalResponse::HEAD_TOO_LARGE,
            500 => LocalResponse::new(
                TerminationReason::Internal,
                500,
                "500 the request could not be handled\n",
            ),
            408 => LocalResponse::new(
                TerminationReason::ClientTimeout,
                408,
                "408 the request did not arrive in time\n",
            ),
            413 => LocalResponse::BODY_TOO_LARGE,
            502 => LocalResponse::new(
                TerminationReason::HostReset,
                502,
                "502 the host sent no valid response\n",
            ),
            503 => LocalResponse {
                retry_after: Some(1),
                ..LocalResponse::NO_HOST
            },
            504 => LocalResponse::new(
                TerminationReason::HostTimeout,
                504,
                "504 the host did not respond in time\n",
            ),
            other => LocalResponse::new(
                TerminationReason::Internal,
                other,
                "the request could not be handled\n",
            ),
        }
    }
}

/// Rounds a time up to whole seconds.
pub(crate) fn ceil_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
