//! `routes`: what happens to which requests.

mod action;
mod authentication;
mod description;
mod header_edits;
mod hidden;
mod host_name;
mod matching;
mod mirror;
mod path_pattern;
mod path_rewrite;
mod redirect;
mod respond;
mod split;

use super::access::Access;
use super::client_certificates::{self, CertificateMode};
use super::compression::RouteCompression;
use super::document::{Content, Node, Position};
use super::environment::System;
use super::error_pages::{ErrorPages, error_pages};
use super::limits::RouteLimits;
use super::rate::{Rate, rate};
use super::retries::{self, RouteRetries};
use super::schema::{
    Kind, List, Reader, boolean, choice, list, map_of, or_false, or_none, section,
};
use super::timeouts::RouteTimeouts;

pub use action::{Action, PoolRef, RouteAction};
pub use authentication::{Authentication, BasicAuth, ForwardAuth};
pub use header_edits::HeaderEdits;
pub use matching::{RequestConditions, RouteMatch};
pub use mirror::Mirror;
pub use path_pattern::PathPattern;
pub(crate) use path_pattern::begins_with_segments;
pub use path_rewrite::PathRewrite;
pub use redirect::Redirect;
pub use respond::Respond;
pub use split::PoolShare;

/// Checking so many takes a second without optimization.
const MAX_ROUTES: usize = 20_000;

section! {
    /// Which requests go to which pool.
    pub struct Route: Eq {
        /// Which requests the route matches.
        matches: RouteMatch { map_of::<RouteMatch>(), flat },
        /// What the route does with them.
        action: RouteAction { map_of::<RouteAction>(), flat },
        /// The path that hosts get.
        rewrite: PathRewrite { map_of::<PathRewrite>(), flat },
        /// What is changed of the header fields of requests. A changed Host reaches the hosts whatever host_header says.
        request_headers: HeaderEdits { map_of::<HeaderEdits>(), default "{}" },
        /// What is changed of the header fields of responses, those of this proxy included.
        response_headers: HeaderEdits { map_of::<HeaderEdits>(), default "{}" },
        /// Whether responses get header fields by which browsers protect their users, where the host does not send them:
        /// X-Content-Type-Options: nosniff, X-Frame-Options: SAMEORIGIN, Referrer-Policy: strict-origin-when-cross-origin, and
        /// to clients that use https Strict-Transport-Security: max-age=31536000.
        security_headers: bool { boolean(), default "false" },
        /// What differs from the top level's `compression` on this route; `false`: responses are not compressed.
        compression: Option<Option<RouteCompression>> { or_false(map_of::<RouteCompression>()), optional "" },
        /// Pages for responses of this proxy itself, as at the top of the file, whose pages hold for all other statuses.
        errors: ErrorPages { error_pages(), default "{}" },
        /// Which requests may go to a second host after a first one has got them. `any_method`: POST as well.
        retry: Retry {
            choice(&[("idempotent", Retry::Idempotent), ("any_method", Retry::AnyMethod)]),
            default "idempotent"
        },
        /// What differs from the pool's `retries` on this route; `none`: no retries. They take from the pool's budget.
        retries: Option<Option<RouteRetries>> { or_none(map_of::<RouteRetries>(), retries::hint), optional "" },
        /// Copies of the requests go to another pool, and its responses are dropped: the name of the pool, or a map. A copy
        /// has the fields that the host gets, `X-Mirrored: 1`, and the Host that `host_header` of the pool says. It is sent
        /// once the whole request has arrived, and never twice. Nothing waits for it. Requests with more than 64 KiB of body,
        /// requests for an upgrade and copies are not copied.
        mirror: Option<Mirror> { map_of::<Mirror>().short_for("pool"), optional "" },
        /// What differs on this route from the `timeouts` of the pool and the top level.
        timeouts: RouteTimeouts { map_of::<RouteTimeouts>(), default "{}" },
        /// How much there may be of anything on this route.
        limits: RouteLimits { map_of::<RouteLimits>(), default "{}" },
        /// Whose requests are served, by the client's address; others get 403.
        access: Access { map_of::<Access>(), flat },
        /// How clients tell who they are.
        authentication: Authentication { map_of::<Authentication>(), flat },
        /// Whether a request needs a client's certificate, as `client_certificates` of its listener verifies them; without one
        /// it gets 403.
        client_certificate: CertificateMode { client_certificates::mode(), default "optional" },
        /// How many requests a client may send on this route.
        rate: Option<Rate> { rate(), optional "" },
    }
    check mirror::mirror_fits;
}

/// Which requests may be sent a second time although a host may have got them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Retry {
    /// Those whose method has the same effect twice as once.
    #[default]
    Idempotent,
    /// All of them: the application can tell a repeated request from a new one.
    AnyMethod,
}

impl Route {
    /// A route that sends all requests to a pool.
    pub fn to_pool(pool: PoolRef) -> Self {
        let mut reader = Reader::new(&[], &System, Vec::new());
        reader.pools = vec![pool.name.clone()];
        let name = Node {
            position: Position::START,
            content: Content::scalar(&pool.name, false),
        };
        let route = map_of::<Route>().read(&name.as_map_of("pool"), &mut reader);
        let mut route = route.expect("every other key of a route may be left out");
        route.action.pool = Some(pool);
        route
    }

    /// The pools that get requests or their copies, or are asked about them.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &PoolRef> {
        let mirror = self.mirror.iter().map(|mirror| &mirror.pool);
        let others = mirror.chain(self.authentication.pool());
        self.action.pools().chain(others)
    }

    /// Whether the route changes requests on their way.
    pub(crate) fn edits_requests(&self) -> bool {
        !(self.rewrite.is_empty() && self.request_headers.is_empty())
    }

    /// Whether the route changes responses on their way.
    pub(crate) fn edits_responses(&self) -> bool {
        self.security_headers || !(self.rewrite.is_empty() && self.response_headers.is_empty())
    }
}

/// The value of `routes`.
pub(super) fn routes() -> List<impl Kind<Value = Route>> {
    list("routes", map_of::<Route>())
        .up_to(MAX_ROUTES)
        .checked(hidden::report)
}
