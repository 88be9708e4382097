//! What is counted by its outcome or reason, with the labels.

/// Why a connection is rejected before its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// The listener's access rules deny the client's address.
    Denied,
    /// The client has reached its limit of connections.
    TooMany,
    /// The TLS handshake failed.
    NoTls,
    /// The proxy in front sent no PROXY protocol header.
    NoProxyHeader,
}

/// How the TLS handshake with a client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeOutcome<'a> {
    /// It succeeded, with this version of the protocol.
    Done(&'a str),
    /// Client and server did not agree, or the client disconnected.
    Failed,
    /// It timed out.
    TimedOut,
    /// It was refused, because there were as many as the limit permits.
    TooMany,
}

/// How an attempt to reload the configuration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// This process reloaded it.
    InPlace,
    /// This process could not reload it; the old configuration stays.
    InPlaceFailed,
    /// The changes need a new process.
    NeedsProcess,
    /// A new process has taken over.
    Handover,
    /// The new process failed; this one serves on.
    HandoverFailed,
}

/// What became of a changed certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateOutcome {
    /// It is used from the next handshake on, or not any more.
    Taken,
    /// Something is wrong with it; the one before serves on.
    Refused,
}

/// What became of an order for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderOutcome {
    /// The authority has issued it.
    Issued,
    /// It failed, and is made again later.
    Failed,
}

impl OrderOutcome {
    pub(super) const ALL: [OrderOutcome; 2] = [OrderOutcome::Issued, OrderOutcome::Failed];

    pub(super) fn label(self) -> &'static str {
        match self {
            OrderOutcome::Issued => "issued",
            OrderOutcome::Failed => "failed",
        }
    }
}

/// What became of a change by an operator that was to be shared with the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterChangeOutcome {
    /// All members have it.
    Published,
    /// Another member changed the same pool at the same time.
    Conflict,
    /// etcd did not take it.
    Refused,
    /// etcd did not say whether it has taken it.
    Unknown,
}

impl ClusterChangeOutcome {
    pub(super) const ALL: [ClusterChangeOutcome; 4] = [
        ClusterChangeOutcome::Published,
        ClusterChangeOutcome::Conflict,
        ClusterChangeOutcome::Refused,
        ClusterChangeOutcome::Unknown,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            ClusterChangeOutcome::Published => "published",
            ClusterChangeOutcome::Conflict => "conflict",
            ClusterChangeOutcome::Refused => "refused",
            ClusterChangeOutcome::Unknown => "unknown",
        }
    }
}

impl CertificateOutcome {
    pub(super) const ALL: [CertificateOutcome; 2] =
        [CertificateOutcome::Taken, CertificateOutcome::Refused];

    pub(super) fn label(self) -> &'static str {
        match self {
            CertificateOutcome::Taken => "taken",
            CertificateOutcome::Refused => "refused",
        }
    }
}

impl ReloadOutcome {
    pub(super) const ALL: [ReloadOutcome; 5] = [
        ReloadOutcome::InPlace,
        ReloadOutcome::InPlaceFailed,
        ReloadOutcome::NeedsProcess,
        ReloadOutcome::Handover,
        ReloadOutcome::HandoverFailed,
    ];

    pub(super) fn labels(self) -> [&'static str; 2] {
        match self {
            ReloadOutcome::InPlace => ["in_place", "ok"],
            ReloadOutcome::InPlaceFailed => ["in_place", "failed"],
            ReloadOutcome::NeedsProcess => ["in_place", "needs_process"],
            ReloadOutcome::Handover => ["handover", "ok"],
            ReloadOutcome::HandoverFailed => ["handover", "failed"],
        }
    }
}

impl RejectReason {
    pub(super) const ALL: [RejectReason; 4] = [
        RejectReason::Denied,
        RejectReason::TooMany,
        RejectReason::NoTls,
        RejectReason::NoProxyHeader,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            RejectReason::Denied => "connection_denied",
            RejectReason::TooMany => "connection_limit",
            RejectReason::NoTls => "tls",
            RejectReason::NoProxyHeader => "proxy_header",
        }
    }
}
