//! Frames of many flows without a list of them.

use super::fill;
use crate::frame::vnet::VnetHdr;
use crate::frame::{Buffer, TxFrame};
use crate::port::{Error, Offloads, Port, Sent};

/// A port that receives frames of many flows, as fast as it is asked, and drops what it is given. All frames are one
/// template, in which four octets hold the number of the flow: so a million flows take no more memory than one, and a
/// bench measures the switch's walk through its tables and not one of its own through a list of frames.
///
/// Each flow comes once a round. The order within a round looks random and is another one in each round (with a few flows,
/// after some thousand frames), so nothing that reads ahead can know which flow is next.
pub struct Synthesizer {
    template: Vec<u8>,
    at: usize,
    first: u32,
    order: Order,
}

/// Most flows of a [`Synthesizer`].
pub const SYNTHETIC_FLOWS_MAX: u32 = 1 << 24;

impl Synthesizer {
    /// Frames as `template`, with `first` and the numbers behind it, `flows` in all, in the four octets at `at`. There is
    /// at least one flow, and at most [`SYNTHETIC_FLOWS_MAX`].
    pub fn new(template: Vec<u8>, at: usize, first: u32, flows: u32) -> Self {
        Synthesizer { template, at, first, order: Order::new(flows.clamp(1, SYNTHETIC_FLOWS_MAX)) }
    }
}

impl Port for Synthesizer {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error> {
        for buffer in buffers.iter_mut() {
            let number = self.first.wrapping_add(self.order.next());
            fill(buffer, &self.template, VnetHdr::PLAIN);
            if let Some(place) = buffer.frame_mut().get_mut(self.at..).and_then(|rest| rest.first_chunk_mut()) {
                *place = number.to_be_bytes();
            }
        }
        Ok(buffers.len())
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        Sent { accepted: frames.len(), ..Sent::default() }
    }

    fn offloads(&self) -> Offloads {
        Offloads::ALL
    }
}

/// The numbers below a count, each once a round: a linear congruential generator of full period (Hull and Dobell 1962),
/// with other constants in each round.
struct Order {
    count: u64,
    /// `2^64 / count`, so that a remainder needs no division.
    reciprocal: u64,
    /// The multiplier of every round is a multiple of this, plus one.
    grain: u64,
    multiplier: u64,
    step: u64,
    next: u64,
    left: u64,
    seed: u64,
}

impl Order {
    fn new(count: u32) -> Self {
        let count = u64::from(count);
        // The product of the primes of `count`, and 4 when that divides it.
        let (mut rest, mut grain, mut prime) = (count, 1, 2);
        while rest > 1 {
            if rest % prime == 0 {
                grain *= prime;
                while rest % prime == 0 {
                    rest /= prime;
                }
            }
            prime += 1;
        }
        if count % 4 == 0 {
            grain *= 2;
        }
        let reciprocal = u64::MAX / count;
        let mut order = Order { count, reciprocal, grain, multiplier: 1, step: 1, next: 0, left: 0, seed: 7 };
        order.shuffle();
        order
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) % below.max(1)
    }

    #[cold]
    fn shuffle(&mut self) {
        self.multiplier = 1 + self.grain * self.draw(self.count / self.grain);
        let prime_to = |a: u64, b: u64| {
            let (mut a, mut b) = (a, b);
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a == 1
        };
        self.step = self.draw(self.count);
        while !prime_to(self.step, self.count) {
            self.step = (self.step + 1) % self.count;
        }
        // A few flows have too few orders to be worth a new one each time.
        self.left = self.count * (4_096 / self.count).max(1);
    }

    #[inline]
    fn next(&mut self) -> u32 {
        let number = self.next;
        let x = number * self.multiplier + self.step;
        let whole = ((u128::from(x) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = x - whole * self.count;
        self.next = if rest >= self.count { rest - self.count } else { rest };
        self.left -= 1;
        if self.left == 0 {
            self.shuffle();
        }
        number as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_comes_once_a_round_and_each_round_in_another_order() {
        for flows in [1, 2, 7, 100, 4096, 10_000] {
            let mut port = Synthesizer::new(vec![9; 12], 4, 0x0a00_0000, flows);
            let mut taken = vec![Buffer::new(0)];
            let mut round = || -> Vec<u32> {
                let mut one = || {
                    assert_eq!(port.rx(&mut taken).unwrap(), 1);
                    let frame = taken[0].frame();
                    assert_eq!((&frame[..4], &frame[8..], frame.len()), (&[9; 4][..], &[9; 4][..], 12));
                    u32::from_be_bytes(*frame[4..].first_chunk().unwrap()) - 0x0a00_0000
                };
                (0..flows).map(|_| one()).collect()
            };
            let (first, second) = (round(), round());
            for order in [&first, &second] {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..flows).collect::<Vec<_>>());
            }
            assert!(flows < 4096 || first != second);
        }
    }
}
