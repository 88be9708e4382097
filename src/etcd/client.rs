//! Sends requests to the endpoints of a cluster, one after the other until one answers, with the token of the user.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use super::endpoint::EndpointChannel;
use super::error::{AttemptError, EtcdError};
use super::messages::{AuthenticateRequest, AuthenticateResponse};
use crate::config::Etcd;

/// The largest message that is read: a member sends at most 2 MiB of events at once, and values have up to 1.5 MiB.
pub(super) const MAX_MESSAGE: usize = 8 << 20;

/// A method of etcd's services.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    pub(super) path: &'static str,
    /// Whether a request whose answer is lost may be sent again.
    pub(super) is_idempotent: bool,
}

const AUTHENTICATE: Method = Method {
    path: "/etcdserverpb.Auth/Authenticate",
    is_idempotent: true,
};

/// A client for an etcd cluster. Clones have connections and token in common. Connections are opened in the runtime that
/// first needs them, and end with it.
#[derive(Clone)]
pub struct EtcdClient(Arc<Shared>);

struct Shared {
    endpoints: Vec<EndpointChannel>,
    /// The index of the endpoint that is asked first.
    current: AtomicUsize,
    credentials: Option<AuthenticateRequest>,
    /// Locked while a token is asked for, so that requests at the same time ask for one together.
    token: Mutex<Option<Token>>,
    request_timeout: Duration,
}

type Token = MetadataValue<Ascii>;

impl EtcdClient {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// An endpoint, an authority, or the certificate cannot be used.
    pub fn new(config: &Etcd) -> Result<Self, String> {
        let endpoints = config.endpoints.iter();
        let endpoints = endpoints.map(|endpoint| EndpointChannel::new(endpoint, config));
        let credentials = config.user.as_ref().zip(config.password_file.as_ref());
        let credentials = credentials.map(|(name, password)| AuthenticateRequest {
            name: name.clone(),
            password: String::from_utf8_lossy(&password.bytes).into_owned(),
        });
        Ok(EtcdClient(Arc::new(Shared {
            endpoints: endpoints.collect::<Result<_, _>>()?,
            current: AtomicUsize::new(0),
            credentials,
            token: Mutex::new(None),
            request_timeout: config.request_timeout,
        })))
    }

    /// The URL of the endpoint that is asked first.
    pub fn endpoint(&self) -> &str {
        let (_, endpoint) = self.current();
        endpoint.map_or("", |endpoint| &endpoint.name)
    }

    /// Sends a request to the endpoints in turn until one answers.
    pub(super) async fn call<Q, A>(&self, method: Method, request: Q) -> Result<A, EtcdError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.on_any_endpoint(method.is_idempotent, |endpoint| {
            let request = request.clone();
            self.authenticated(endpoint, move |token| {
                self.attempt(endpoint, method, request.clone(), token)
            })
        })
        .await
    }

    /// Opens a stream. `requests` gives the stream of requests for each endpoint that is tried, and what belongs to it.
    pub(super) async fn open_stream<S, T, Q, A>(
        &self,
        method: Method,
        requests: impl Fn() -> (S, T) + Sync,
    ) -> Result<(Streaming<A>, T, OpenedAt), EtcdError>
    where
        S: tokio_stream::Stream<Item = Q> + Send + 'static,
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let requests = &requests;
        self.on_any_endpoint(method.is_idempotent, |endpoint| async move {
            let opened = self.authenticated(endpoint, |token| {
                let (requests, owner) = requests();
                let request = self.with_metadata(requests, token);
                let path = PathAndQuery::from_static(method.path);
                self.within_timeout(endpoint, |mut grpc| async move {
                    let response = grpc.streaming(request, path, ProstCodec::default()).await?;
                    Ok((response.into_inner(), owner))
                })
            });
            let (stream, owner) = opened.await?;
            Ok((stream, owner, OpenedAt(self.index_of(endpoint))))
        })
        .await
    }

    /// Asks another endpoint first from now on, because a stream of this one has failed. Returns its name.
    pub(super) fn leave_endpoint(&self, opened_at: OpenedAt) -> &str {
        self.advance_from(opened_at.0);
        let endpoint = self.0.endpoints.get(opened_at.0);
        endpoint.map_or("", |endpoint| {
            endpoint.disconnect();
            &endpoint.name
        })
    }

    /// The time for the answer of one endpoint.
    pub(super) fn request_timeout(&self) -> Duration {
        self.0.request_timeout
    }

    /// Asks for a new token with the next request, because the present one may be the reason why a stream has ended.
    pub(super) async fn forget_token(&self) {
        *self.0.token.lock().await = None;
    }

    // The closures here are not async ones, whose futures are not known to be `Send`.
    async fn on_any_endpoint<'a, T, F>(
        &'a self,
        is_idempotent: bool,
        attempt: impl Fn(&'a EndpointChannel) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        let mut reasons = Vec::new();
        for _ in 0..self.0.endpoints.len() {
            let (index, Some(endpoint)) = self.current() else {
                break;
            };
            let named = |reason: &str| format!("{}: {reason}", endpoint.name);
            match attempt(endpoint).await {
                Ok(answer) => return Ok(answer),
                Err(AttemptError::NotExecuted(reason)) => reasons.push(named(&reason)),
                Err(AttemptError::Unanswered(reason)) => {
                    // A new attempt on a new connection: this one may lead nowhere.
                    endpoint.disconnect();
                    if !is_idempotent {
                        self.advance_from(index);
                        return Err(EtcdError::OutcomeUnknown(named(&reason)));
                    }
                    reasons.push(named(&reason));
                }
                Err(AttemptError::InvalidToken(reason)) => {
                    return Err(EtcdError::Refused(named(&reason)));
                }
                Err(AttemptError::Final(error)) => return Err(error),
            }
            self.advance_from(index);
        }
        Err(EtcdError::Unavailable(reasons.join("; ")))
    }

    /// Makes an attempt with a token, and a second one with a new token if the first is not valid any more.
    async fn authenticated<T, F>(
        &self,
        endpoint: &EndpointChannel,
        attempt: impl Fn(Option<Token>) -> F,
    ) -> Result<T, AttemptError>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        let token = self.token(endpoint, None).await?;
        match attempt(token.clone()).await {
            Err(AttemptError::InvalidToken(_)) if self.0.credentials.is_some() => {
                attempt(self.token(endpoint, token).await?).await
            }
            outcome => outcome,
        }
    }

    /// The token of the user, but not `rejected`; `None` without a user.
    async fn token(
        &self,
        endpoint: &EndpointChannel,
        rejected: Option<Token>,
    ) -> Result<Option<Token>, AttemptError> {
        let Some(credentials) = &self.0.credentials else {
            return Ok(None);
        };
        let limit = self.0.request_timeout;
        let Ok(mut held) = timeout(limit, self.0.token.lock()).await else {
            return Err(AttemptError::NotExecuted(format!("no token in {limit:?}")));
        };
        if held.is_some() && *held != rejected {
            return Ok(held.clone());
        }
        let request = credentials.clone();
        let response = self.attempt(endpoint, AUTHENTICATE, request, None).await;
        let response: AuthenticateResponse = match response {
            Ok(response) => response,
            // etcd says this as long as its authentication is off.
            Err(AttemptError::Final(EtcdError::Refused(reason)))
                if reason.contains("authentication is not enabled") =>
            {
                return Ok(None);
            }
            // Nothing but a token was asked for.
            Err(AttemptError::Unanswered(reason)) => {
                endpoint.disconnect();
                return Err(AttemptError::NotExecuted(reason));
            }
            Err(error) => return Err(error),
        };
        let token = response.token.parse().map_err(|_| {
            AttemptError::NotExecuted("the token cannot stand in a header field".to_owned())
        })?;
        Ok(held.insert(token).clone().into())
    }

    async fn attempt<Q, A>(
        &self,
        endpoint: &EndpointChannel,
        method: Method,
        message: Q,
        token: Option<Token>,
    ) -> Result<A, AttemptError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = self.with_metadata(message, token);
        let path = PathAndQuery::from_static(method.path);
        self.within_timeout(endpoint, |mut grpc| async move {
            let response = grpc.unary(request, path, ProstCodec::default()).await?;
            Ok(response.into_inner())
        })
        .await
    }

    fn with_metadata<T>(&self, message: T, token: Option<Token>) -> Request<T> {
        let mut metadata = MetadataMap::new();
        // Members that have lost their leader refuse requests and end streams, instead of going stale.
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = token {
            metadata.insert("token", token);
        }
        Request::from_parts(metadata, Default::default(), message)
    }

    async fn within_timeout<T, F>(
        &self,
        endpoint: &EndpointChannel,
        call: impl FnOnce(Grpc<Channel>) -> F,
    ) -> Result<T, AttemptError>
    where
        F: Future<Output = Result<T, tonic::Status>>,
    {
        let mut grpc = Grpc::new(endpoint.channel()).max_decoding_message_size(MAX_MESSAGE);
        let limit = self.0.request_timeout;
        let mut is_sent = false;
        let outcome = timeout(limit, async {
            grpc.ready().await.map_err(|error| {
                let status = tonic::Status::from_error(Box::new(error));
                match AttemptError::from(status) {
                    AttemptError::Unanswered(reason) => AttemptError::NotExecuted(reason),
                    error => error,
                }
            })?;
            is_sent = true;
            call(grpc).await.map_err(AttemptError::from)
        })
        .await;
        match outcome {
            Ok(outcome) => outcome,
            Err(_) if is_sent => Err(AttemptError::Unanswered(format!("no answer in {limit:?}"))),
            Err(_) => Err(AttemptError::NotExecuted(format!(
                "no connection in {limit:?}"
            ))),
        }
    }

    fn current(&self) -> (usize, Option<&EndpointChannel>) {
        let index = self.0.current.load(Ordering::Relaxed);
        (index, self.0.endpoints.get(index))
    }

    /// Passes to the next endpoint, unless another request has done so already.
    fn advance_from(&self, index: usize) {
        let next = (index + 1) % self.0.endpoints.len().max(1);
        let current = &self.0.current;
        let _ = current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn index_of(&self, endpoint: &EndpointChannel) -> usize {
        let mut endpoints = self.0.endpoints.iter();
        let found = endpoints.position(|other| std::ptr::eq(other, endpoint));
        found.unwrap_or_default()
    }
}

impl fmt::Debug for EtcdClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the password nor the token.
        let endpoints = self.0.endpoints.iter().map(|endpoint| &endpoint.name);
        f.debug_list().entries(endpoints).finish()
    }
}

/// The endpoint at which a stream was opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenedAt(usize);
