//! `slow_start`: how new and recovered hosts come to their share.

use std::time::Duration;

use super::schema::{percent, section, time};

section! {
    /// How new and recovered hosts come to their share.
    pub struct SlowStart: Copy, Eq {
        /// How long it takes.
        window: Duration { time(), default "10s" },
        /// The part of its share that a host begins with.
        floor: u32 { percent(1..=100), default "10%" },
    }
}
