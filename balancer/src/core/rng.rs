//! Random numbers and turns: without a lock, and in the same order for a pick and its explanation.

use std::cell::{Cell, RefCell};
use std::f64::consts::LN_2;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use super::hash::mix;

thread_local! {
    // One generator per thread: no cache line is shared between threads that pick.
    static PER_THREAD: RefCell<SmallRng> = RefCell::new(SmallRng::from_entropy());
}

/// 2^64 divided by the golden ratio: multiples of it modulo 2^64 are spread as evenly as any sequence can be (Knuth,
/// The Art of Computer Programming 3, section 6.4).
pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What the picks of a balancer take one after the other: turns, and random numbers if it has a seed.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// The number of the next draw, with a seed. Draw number n is a function of the seed and n, whichever thread makes it.
    draws: Option<AtomicU64>,
    /// The number of the next turn, across all memberships.
    turns: AtomicU64,
}

impl Sequence {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        // Spread, so that the sequences of neighbouring seeds do not overlap.
        let first = seed.map(|seed| SmallRng::seed_from_u64(seed).next_u64());
        Sequence {
            draws: first.map(AtomicU64::new),
            turns: AtomicU64::new(0),
        }
    }

    /// The number of the next turn.
    pub(crate) fn turn(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Takes numbers for a pick.
    pub(crate) fn take(&self) -> Rng<'_> {
        Rng {
            sequence: self,
            ahead: None,
        }
    }

    /// Reads the numbers that the next pick will take, without taking them.
    pub(crate) fn read_ahead(&self) -> Rng<'_> {
        Rng {
            sequence: self,
            ahead: Some(Ahead::default()),
        }
    }
}

/// The random numbers and the turns of one pick.
#[derive(Debug)]
pub(crate) struct Rng<'a> {
    sequence: &'a Sequence,
    ahead: Option<Ahead>,
}

/// How many numbers were read ahead.
#[derive(Debug, Default)]
struct Ahead {
    draws: Cell<u64>,
    turns: Cell<u64>,
}

impl Rng<'_> {
    /// 64 uniform bits.
    #[inline]
    pub(crate) fn bits(&self) -> u64 {
        match &self.sequence.draws {
            None => PER_THREAD.with_borrow_mut(RngCore::next_u64),
            Some(draws) => {
                let number = next(draws, self.ahead.as_ref().map(|ahead| &ahead.draws));
                SmallRng::seed_from_u64(number).next_u64()
            }
        }
    }

    /// A number that no other pick takes: 0, 1, 2 and so on.
    #[inline]
    pub(crate) fn turn(&self) -> u64 {
        next(
            &self.sequence.turns,
            self.ahead.as_ref().map(|ahead| &ahead.turns),
        )
    }

    /// A uniform number below `bound`; 0 if `bound` is 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        scale(self.bits(), bound).0
    }

    /// True with `probability`.
    pub(crate) fn chance(&self, probability: f64) -> bool {
        unit(self.bits()) < probability
    }
}

fn next(counter: &AtomicU64, ahead: Option<&Cell<u64>>) -> u64 {
    match ahead {
        None => counter.fetch_add(1, Ordering::Relaxed),
        Some(ahead) => {
            let first = counter.load(Ordering::Relaxed);
            first.wrapping_add(ahead.replace(ahead.get() + 1))
        }
    }
}

/// Maps 64 uniform bits to a number below `bound` (Lemire's multiplication) and the remaining bits, uniform again. The
/// bias is bound / 2^64, too small for any test.
#[inline]
pub(crate) fn scale(bits: u64, bound: u64) -> (u64, u64) {
    let product = u128::from(bits) * u128::from(bound);
    ((product >> 64) as u64, product as u64)
}

/// Maps 64 uniform bits to a number from 0 to below 1, by the 53 bits that an f64 holds exactly.
#[inline]
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Bits for each position out of the bits of one draw.
#[inline]
pub(crate) fn bits_at(bits: u64, position: usize) -> u64 {
    mix(bits ^ (position as u64 + 1).wrapping_mul(GOLDEN))
}

/// An exponentially distributed number of mean 1 from 64 uniform bits: −ln u with the logarithm interpolated
/// between powers of two by a parabola, right to 1 %, which takes no call.
///
/// Such a number divided by a weight decides a race by the weights: the smallest of Eᵢ/wᵢ is that of i with the probability
/// wᵢ/W.
#[inline]
pub(crate) fn exponential(bits: u64) -> f64 {
    let zeros = bits.leading_zeros();
    // u = (2 − g) / 2 / 2^zeros, so −ln u = zeros × ln 2 − ln(1 − g/2).
    let g = 1.0 - (bits << (zeros & 63) << 1) as f64 / 2f64.powi(64);
    LN_2 * f64::from(zeros) + g * (0.5 + (LN_2 - 0.5) * g)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_ahead_are_those_taken_next() {
        let sequence = Sequence::new(Some(7));
        for _ in 0..10 {
            let ahead = sequence.read_ahead();
            let read = [ahead.bits(), ahead.turn(), ahead.bits(), ahead.turn()];
            let rng = sequence.take();
            assert_eq!(read, [rng.bits(), rng.turn(), rng.bits(), rng.turn()]);
        }
    }

    #[test]
    fn races_of_exponential_numbers_are_decided_by_the_weights() {
        let sequence = Sequence::new(Some(1));
        let rng = sequence.take();
        for weight in [1.0, 3.0, 10.0, 99.0] {
            let wins = (0..200_000).filter(|_| {
                let bits = rng.bits();
                exponential(bits_at(bits, 0)) < exponential(bits_at(bits, 1)) / weight
            });
            let found = wins.count() as f64 / 200_000.0;
            let expected = 1.0 / (1.0 + weight);
            assert!((found / expected - 1.0).abs() < 0.15, "{weight}: {found}");
        }
    }
}
