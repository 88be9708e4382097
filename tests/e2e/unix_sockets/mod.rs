//! Unix sockets, of hosts and of listeners.

mod hosts;
mod listeners;
