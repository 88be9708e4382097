//! Values of the right type that are not valid, by section: every message, and the accepted values beside them.

mod access_log;
mod admin;
mod algorithm;
mod compression;
mod error_list;
mod health_check;
mod hosts;
mod listeners;
mod pool;
mod retries;
mod server;
mod sticky;
mod top_level;
