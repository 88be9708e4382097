//! README.md and docs/: every command is run, every configuration is accepted, and what they name exists.

mod cargo_commands;
mod commands;
mod configurations;
mod markdown;
mod references;
mod sandbox;
mod sentences;
mod step;
