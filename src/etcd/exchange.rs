//! The two kinds of calls: one response to one request, and a stream of responses to a stream of requests.

use std::marker::PhantomData;

use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// A method of etcd's services.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    pub(super) path: &'static str,
    /// Whether a request whose answer is lost may be sent again.
    pub(super) is_idempotent: bool,
}

impl Method {
    fn path(self) -> PathAndQuery {
        PathAndQuery::from_static(self.path)
    }
}

/// A call that can be made at one endpoint after the other.
pub(super) trait Exchange: Sync {
    type Answer: Send;

    fn method(&self) -> Method;

    fn perform(
        &self,
        grpc: Grpc<Channel>,
        metadata: MetadataMap,
    ) -> impl Future<Output = Result<Self::Answer, Status>> + Send;
}

/// One response to one request.
pub(super) struct Unary<Q, A> {
    pub(super) method: Method,
    pub(super) request: Q,
    pub(super) answer: PhantomData<fn() -> A>,
}

impl<Q, A> Exchange for Unary<Q, A>
where
    Q: Message + Clone + 'static,
    A: Message + Default + 'static,
{
    type Answer = A;

    fn method(&self) -> Method {
        self.method
    }

    async fn perform(&self, mut grpc: Grpc<Channel>, metadata: MetadataMap) -> Result<A, Status> {
        let request = self.request.clone();
        let request = Request::from_parts(metadata, Default::default(), request);
        let codec = ProstCodec::default();
        let response = grpc.unary(request, self.method.path(), codec).await?;
        Ok(response.into_inner())
    }
}

/// A stream that begins with a request. Further ones are sent through the channel, with which the stream ends.
pub(super) struct Open<Q, A> {
    pub(super) method: Method,
    pub(super) first: Q,
    pub(super) answer: PhantomData<fn() -> A>,
}

impl<Q, A> Exchange for Open<Q, A>
where
    Q: Message + Clone + 'static,
    A: Message + Default + 'static,
{
    type Answer = (mpsc::Sender<Q>, Streaming<A>);

    fn method(&self) -> Method {
        self.method
    }

    async fn perform(
        &self,
        mut grpc: Grpc<Channel>,
        metadata: MetadataMap,
    ) -> Result<Self::Answer, Status> {
        let (sender, receiver) = mpsc::channel(1);
        // The channel is new and has room.
        let _ = sender.try_send(self.first.clone());
        let requests = ReceiverStream::new(receiver);
        let request = Request::from_parts(metadata, Default::default(), requests);
        let codec = ProstCodec::default();
        let response = grpc.streaming(request, self.method.path(), codec).await?;
        Ok((sender, response.into_inner()))
    }
}
