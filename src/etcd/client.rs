//! Sends requests to the endpoints of a cluster, one after the other until one answers, with the token of the user.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use super::endpoint::EndpointChannel;
use super::error::{AttemptError, EtcdError, describe};
use super::exchange::{Exchange, Method, Open, Unary};
use super::messages::{AuthenticateRequest, AuthenticateResponse};
use crate::config::Etcd;

/// The largest message that is read: a member sends at most 2 MiB of events at once, and values have up to 1.5 MiB.
const MAX_MESSAGE: usize = 8 << 20;

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
    #[cfg(test)]
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
        let unary = Unary {
            method,
            request,
            answer: PhantomData,
        };
        let (answer, _) = self.on_any_endpoint(unary).await?;
        Ok(answer)
    }

    /// Opens a stream at the first endpoint that answers.
    pub(super) async fn open_stream<Q, A>(
        &self,
        method: Method,
        first: Q,
    ) -> Result<OpenStream<Q, A>, EtcdError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let open = Open {
            method,
            first,
            answer: PhantomData,
        };
        let ((requests, responses), opened_at) = self.on_any_endpoint(open).await?;
        Ok(OpenStream {
            requests,
            responses,
            opened_at,
        })
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

    async fn on_any_endpoint<E: Exchange>(
        &self,
        exchange: E,
    ) -> Result<(E::Answer, OpenedAt), EtcdError> {
        let mut reasons = Vec::new();
        let is_idempotent = exchange.method().is_idempotent;
        let mut may_reconnect = is_idempotent;
        let mut untried = self.0.endpoints.len();
        while untried > 0 {
            let (index, Some(endpoint)) = self.current() else {
                break;
            };
            let named = |reason: &str| format!("{}: {reason}", endpoint.name);
            match self.with_token(endpoint, &exchange).await {
                Ok(answer) => return Ok((answer, OpenedAt(index))),
                Err(AttemptError::NotExecuted(reason)) => reasons.push(named(&reason)),
                Err(AttemptError::Broken(_)) if may_reconnect => {
                    // The member may have been restarted since the last request.
                    endpoint.disconnect();
                    may_reconnect = false;
                    continue;
                }
                Err(AttemptError::Broken(reason) | AttemptError::Late(reason)) => {
                    // The next attempt makes a new connection: this one may lead nowhere.
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
            untried -= 1;
        }
        Err(EtcdError::Unavailable(reasons.join("; ")))
    }

    /// Makes an attempt with a token, and a second one with a new token if the first is not valid any more.
    async fn with_token<E: Exchange>(
        &self,
        endpoint: &EndpointChannel,
        exchange: &E,
    ) -> Result<E::Answer, AttemptError> {
        let token = self.token(endpoint, None).await?;
        match self.attempt(endpoint, exchange, token.clone()).await {
            Err(AttemptError::InvalidToken(_)) if self.0.credentials.is_some() => {
                let token = self.token(endpoint, token).await?;
                self.attempt(endpoint, exchange, token).await
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
        let authenticate = Unary {
            method: AUTHENTICATE,
            request: credentials.clone(),
            answer: PhantomData,
        };
        let response = self.attempt(endpoint, &authenticate, None).await;
        let response: AuthenticateResponse = match response {
            Ok(response) => response,
            // etcd says this as long as its authentication is off.
            Err(AttemptError::Final(EtcdError::Refused(reason)))
                if reason.contains("authentication is not enabled") =>
            {
                return Ok(None);
            }
            // Nothing but a token was asked for.
            Err(AttemptError::Broken(reason) | AttemptError::Late(reason)) => {
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

    async fn attempt<E: Exchange>(
        &self,
        endpoint: &EndpointChannel,
        exchange: &E,
        token: Option<Token>,
    ) -> Result<E::Answer, AttemptError> {
        let mut grpc = Grpc::new(endpoint.channel()).max_decoding_message_size(MAX_MESSAGE);
        let limit = self.0.request_timeout;
        let mut is_connected = false;
        let attempt = async {
            let ready = grpc.ready().await;
            ready.map_err(|error| AttemptError::NotExecuted(describe(&error)))?;
            is_connected = true;
            let answer = exchange.perform(grpc, metadata(token)).await;
            answer.map_err(AttemptError::from)
        };
        match timeout(limit, attempt).await {
            Ok(outcome) => outcome,
            Err(_) if is_connected => Err(AttemptError::Late(format!("no answer in {limit:?}"))),
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
}

impl fmt::Debug for EtcdClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the password nor the token.
        let endpoints = self.0.endpoints.iter().map(|endpoint| &endpoint.name);
        f.debug_list().entries(endpoints).finish()
    }
}

/// What is sent with each request.
fn metadata(token: Option<Token>) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    // Members that have lost their leader refuse requests and end streams, instead of going stale.
    metadata.insert("hasleader", MetadataValue::from_static("true"));
    if let Some(token) = token {
        metadata.insert("token", token);
    }
    metadata
}

/// A stream that a member has answered.
#[derive(Debug)]
pub(super) struct OpenStream<Q, A> {
    pub(super) requests: mpsc::Sender<Q>,
    pub(super) responses: Streaming<A>,
    pub(super) opened_at: OpenedAt,
}

/// The endpoint at which a stream was opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenedAt(usize);
