//! The client's side of a connection: what a client may take its time for, and what becomes of it when it does not keep
//! to that, or when the code that serves it panics.
//!
//! Pingora knows the silence before each single read, not the time of a whole head, and nothing of a client that does
//! not read. So a connection's stream is a [`Client`], which watches the time where time passes: where a read or a write
//! has to wait. It costs nothing where a request comes in one piece. A [`Client`] also refuses request lines that Pingora
//! would mend and pass on. [`Guarded`] stands around the proxy and answers
//! where the proxy cannot.

mod alarm;
mod gate;
mod guarded;
mod line;
mod stream;

pub(super) use gate::Gate;
pub use guarded::Guarded;
pub use stream::Client;
