//! Whose requests are served: the networks of a route, and the rates.

use pingora::http::RequestHeader;

use super::Proxy;
use super::answer::Answer;
use super::context::RequestContext;

impl Proxy {
    /// The answer for a request beyond the rate that holds for all.
    pub(super) fn refuse_early(
        &self,
        request: &RequestHeader,
        ctx: &RequestContext,
    ) -> Option<Answer> {
        let rate = ctx.site.limits.rate.as_ref()?;
        let client = ctx.origin.map(|origin| origin.client);
        let counted = self.clients().count(0, rate, client, request);
        counted.err().map(Answer::too_many)
    }

    /// The answer for a request that the `number`th route is not there for.
    pub(super) fn refuse(
        &self,
        number: usize,
        request: &RequestHeader,
        ctx: &RequestContext,
    ) -> Option<Answer> {
        let route = &ctx.site.routes[number];
        let client = ctx.origin.map(|origin| origin.client);
        if client.is_some_and(|client| !route.access.permits(client)) {
            return Some(Answer::FORBIDDEN);
        }
        let rate = route.rate.as_ref()?;
        // 0 is the rate for all.
        let counted = self.clients().count(number + 1, rate, client, request);
        counted.err().map(Answer::too_many)
    }
}
