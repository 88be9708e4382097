//! Random numbers for requests: identifiers, samples and shares. Not for secrets.

use std::cell::RefCell;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

thread_local! {
    // One generator per thread: no cache line is shared between workers.
    static PER_THREAD: RefCell<SmallRng> = RefCell::new(SmallRng::from_entropy());
}

/// 64 uniform bits of the thread's own generator.
pub(crate) fn thread_random() -> u64 {
    PER_THREAD.with_borrow_mut(RngCore::next_u64)
}
