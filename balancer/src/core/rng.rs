//! Random draws on the request path, without a lock.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use super::trace::PickTrace;

thread_local! {
    // One generator per thread: no cache line is shared between threads that pick.
    static PER_THREAD: RefCell<SmallRng> = RefCell::new(SmallRng::from_entropy());
}

/// The source of an algorithm's random numbers.
#[derive(Debug)]
pub(crate) enum Rng {
    /// The thread's own generator, seeded by the system.
    PerThread,
    /// Draw number n is a function of the seed and n, whichever thread makes it.
    Seeded(AtomicU64),
}

impl Rng {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        match seed {
            None => Rng::PerThread,
            // Spread, so that the sequences of neighbouring seeds do not overlap.
            Some(seed) => Rng::Seeded(AtomicU64::new(SmallRng::seed_from_u64(seed).next_u64())),
        }
    }

    /// 64 uniform bits.
    pub(crate) fn draw(&self, trace: &impl PickTrace) -> u64 {
        match self {
            Rng::PerThread => trace.draw(),
            Rng::Seeded(next) => {
                SmallRng::seed_from_u64(trace.fetch_add(next, 1, Ordering::Relaxed)).next_u64()
            }
        }
    }

    /// A uniform number below `bound`; 0 if `bound` is 0.
    pub(crate) fn below(&self, bound: u64, trace: &impl PickTrace) -> u64 {
        scale(self.draw(trace), bound).0
    }

    /// True with `probability`.
    pub(crate) fn chance(&self, probability: f64, trace: &impl PickTrace) -> bool {
        // The 53 bits that an f64 holds exactly.
        ((self.draw(trace) >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

/// 64 uniform bits of the thread's own generator.
pub(crate) fn thread_random() -> u64 {
    PER_THREAD.with_borrow_mut(RngCore::next_u64)
}

/// Maps 64 uniform bits to a number below `bound` (Lemire's multiplication) and the remaining bits, uniform again. The
/// bias is bound / 2^64, too small for any test.
pub(crate) fn scale(bits: u64, bound: u64) -> (u64, u64) {
    let product = u128::from(bits) * u128::from(bound);
    ((product >> 64) as u64, product as u64)
}
