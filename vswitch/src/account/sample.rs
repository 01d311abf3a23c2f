//! Which packets a sampled flow monitor counts: one of so many, or several, at each port and way by itself.
//!
//! A [`Gap`] says how many packets pass before the next one is picked, so a packet that is not costs a subtraction. In a
//! deterministic sampler the gap is always the same: every n-th packet is picked exactly. In a random one it is drawn anew
//! behind each packet that was picked, from the geometric distribution; that is as if every packet were decided by itself
//! with probability 1/n, and no pattern of packets can hide from it. Of several packets of n, a deterministic sampler picks
//! the last ones of each n (RFC 5475 section 5.1), and a random one any (section 5.2.1): the gaps within n packets are drawn one after
//! the other, so that each choice is as likely as any other. That takes at most a step for each packet that passes. The generator is seeded by the system and its state
//! never leaves the worker.
//!
//! A super-frame is the segments that it will be: each of them is a packet here ([`walk`]).
//!
//! Threads: one worker's. Each counts by itself.

use std::hash::{BuildHasher, Hasher, RandomState};

use proto::flow::Sampling;

use super::classes::Amount;
use crate::parse::Parsed;

/// xoshiro256++ (D. Blackman and S. Vigna).
pub struct Random([u64; 4]);

impl Random {
    /// A generator with a seed of the system's.
    pub fn new() -> Self {
        Random(std::array::from_fn(|i| {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_usize(i);
            hasher.finish() | 1
        }))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let drawn = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.0 = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        drawn
    }

    /// Packets that pass before the first of `picks` that are drawn from `rest` (J. Vitter's algorithm A).
    fn skip(&mut self, picks: u16, rest: u16) -> u16 {
        let uniform = self.uniform();
        let (picks, mut rest) = (f64::from(picks), f64::from(rest));
        // The probability that none of those that were passed so far is drawn, and the next neither.
        let (mut passed, mut none) = (0, 1.0);
        loop {
            none *= (rest - picks) / rest;
            // At the latest when no more are left than are drawn: then it is 0.
            if none < uniform {
                return passed;
            }
            (passed, rest) = (passed + 1, rest - 1.0);
        }
    }

    /// Above 0 and at most 1.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Packets that pass before the next one is picked, when each is with probability 1 / `out_of`.
    fn gap(&mut self, out_of: u16) -> u32 {
        let uniform = self.uniform();
        // At most 37 * 16,383.
        (uniform.ln() / (-1.0 / f64::from(out_of)).ln_1p()) as u32
    }
}

impl Default for Random {
    fn default() -> Self {
        Random::new()
    }
}

/// How far a sampler is at a port.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gap {
    sampling: Sampling,
    /// Packets that pass before the next one is picked.
    left: u32,
    /// Of a sampler of several packets: how many are still to be picked behind that one, of the packets at hand.
    picks: u16,
    /// How many packets those are.
    rest: u16,
}

impl Gap {
    /// One packet passes; `true` when it is picked.
    #[inline]
    pub fn step(&mut self, sampling: Sampling, random: &mut Random) -> bool {
        if self.sampling != sampling {
            *self = Gap::begin(sampling, random);
        }
        let is_picked = self.left == 0;
        self.left = if is_picked { self.draw(random) } else { self.left - 1 };
        is_picked
    }

    fn begin(sampling: Sampling, random: &mut Random) -> Gap {
        let mut gap = Gap { sampling, ..Gap::default() };
        gap.left = gap.draw(random);
        gap
    }

    /// Packets that pass before the next one.
    #[inline]
    fn draw(&mut self, random: &mut Random) -> u32 {
        let sampling = self.sampling;
        match (sampling.count(), sampling.is_random()) {
            (1, true) => random.gap(sampling.out_of()),
            (1, false) => u32::from(sampling.out_of()) - 1,
            (count, _) => self.draw_of(count, random),
        }
    }

    #[inline(never)]
    fn draw_of(&mut self, count: u16, random: &mut Random) -> u32 {
        let mut passed = 0;
        if self.picks == 0 {
            passed = self.rest.into();
            (self.picks, self.rest) = (count, self.sampling.out_of());
        }
        let skip = if self.sampling.is_random() { random.skip(self.picks, self.rest) } else { self.rest - self.picks };
        (self.picks, self.rest) = (self.picks - 1, self.rest - skip - 1);
        passed + u32::from(skip)
    }
}

/// The packets of a frame that were picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Share {
    /// How many.
    pub packets: u32,
    /// The last one, which may be shorter than the others, is among them.
    pub last: bool,
}

impl Share {
    /// All of them.
    pub fn whole(frame: &Parsed) -> Self {
        Share { packets: frame.segments, last: true }
    }

    fn take(&mut self, is_last: bool) {
        self.packets += 1;
        self.last |= is_last;
    }

    /// IP octets of the picked packets.
    pub fn octets(self, frame: &Parsed) -> u64 {
        self.sum(frame.segments, frame.octets, frame.packet_max)
    }

    /// IP octets of the shortest and of the longest of the picked packets, of which there is at least one.
    pub fn lengths(self, frame: &Parsed) -> [u32; 2] {
        let before = frame.segments.saturating_sub(1).saturating_mul(frame.packet_max);
        let last = frame.octets.saturating_sub(before);
        match (self.last, self.packets) {
            (false, _) => [frame.packet_max; 2],
            (true, ..=1) => [last; 2],
            (true, _) => [last, frame.packet_max],
        }
    }

    /// Packets, and octets of their frames.
    pub fn amount(self, frame: &Parsed) -> Amount {
        // Every segment has the same headers.
        let link = frame.l2_octets.saturating_sub(frame.octets) / frame.segments.max(1);
        let octets = self.sum(frame.segments, frame.l2_octets, frame.packet_max.saturating_add(link));
        Amount { packets: self.packets.into(), octets }
    }

    /// Of `segments` packets that have `all` octets together, and but for the last one `each`.
    fn sum(self, segments: u32, all: u32, each: u32) -> u64 {
        if self.packets == segments {
            return all.into();
        }
        let [packets, segments, all, each] = [self.packets, segments, all, each].map(u64::from);
        let last = all.saturating_sub(segments.saturating_sub(1) * each);
        packets.saturating_sub(self.last.into()) * each + if self.last { last } else { 0 }
    }
}

/// A sampler that a frame passes.
#[derive(Clone, Copy, Debug)]
pub struct Picker {
    /// What it does.
    pub sampling: Sampling,
    /// Which of the gaps is its own.
    pub gap: usize,
    /// What it picked.
    pub share: Share,
}

/// Has a frame of `segments` packets pass samplers; returns what any of them picked. It takes a step for each packet that
/// is picked, none for those that are not.
pub fn walk(pickers: &mut [Picker], gaps: &mut [Gap], random: &mut Random, segments: u32) -> Share {
    for picker in pickers.iter() {
        if let Some(gap) = gaps.get_mut(picker.gap)
            && gap.sampling != picker.sampling
        {
            *gap = Gap::begin(picker.sampling, random);
        }
    }
    let mut picked = Share::default();
    loop {
        let next = pickers.iter().filter_map(|picker| gaps.get(picker.gap)).map(|gap| gap.left).min();
        let Some(next) = next.filter(|next| *next < segments) else { break };
        let is_last = next + 1 == segments;
        picked.take(is_last);
        for picker in pickers.iter_mut() {
            if let Some(gap) = gaps.get_mut(picker.gap).filter(|gap| gap.left == next) {
                picker.share.take(is_last);
                gap.left = next + 1 + gap.draw(random);
            }
        }
    }
    for picker in pickers.iter() {
        if let Some(gap) = gaps.get_mut(picker.gap) {
            gap.left = gap.left.saturating_sub(segments);
        }
    }
    picked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picker(sampling: Sampling, gap: usize) -> Picker {
        Picker { sampling, gap, share: Share::default() }
    }

    fn one_of(random: bool, out_of: u16) -> Sampling {
        Sampling::new(random, out_of).unwrap()
    }

    #[test]
    fn a_deterministic_sampler_picks_every_nth_packet_however_they_come() {
        let (mut gaps, mut random) = ([Gap::default(); 1], Random::new());
        let mut passed = 0;
        for n in 0..5000u32 {
            let segments = 1 + n % 47;
            let mut pickers = [picker(one_of(false, 10), 0)];
            let all = walk(&mut pickers, &mut gaps, &mut random, segments);
            let picked = (passed + segments) / 10 - passed / 10;
            passed += segments;
            let share = Share { packets: picked, last: passed % 10 == 0 };
            assert_eq!((pickers[0].share, all), (share, share));
        }
    }

    #[test]
    fn a_random_sampler_picks_as_many_as_it_says_and_leaves_no_pattern() {
        let (mut gaps, mut random) = ([Gap::default(); 1], Random::new());
        let (packets, out_of) = (400_000, 20);
        let picks: Vec<bool> = (0..packets)
            .map(|_| {
                let mut pickers = [picker(one_of(true, out_of), 0)];
                walk(&mut pickers, &mut gaps, &mut random, 1).packets == 1
            })
            .collect();
        // Binomial: six standard deviations are off once in a thousand million runs.
        let near = |count: usize, of: f64, p: f64| {
            let (mean, deviation) = (of * p, (of * p * (1.0 - p)).sqrt());
            assert!((count as f64 - mean).abs() < 6.0 * deviation, "{count} instead of {mean}");
        };
        let p = 1.0 / f64::from(out_of);
        near(picks.iter().filter(|picked| **picked).count(), packets as f64, p);
        // A packet behind one that was picked is picked as any other.
        let behind = picks.windows(2).filter(|pair| pair[0]);
        let both = behind.clone().filter(|pair| pair[1]).count();
        near(both, behind.count() as f64, p);
        for phase in 0..20 {
            near(picks.iter().skip(phase).step_by(20).filter(|picked| **picked).count(), packets as f64 / 20.0, p);
        }
        let (one, other) = (Random::new().next(), Random::new().next());
        assert_ne!(one, other);
    }

    /// Of each so many packets exactly as many as it says: the last ones, or any.
    #[test]
    fn a_sampler_of_several_packets_picks_them_of_each_so_many() {
        for (count, out_of) in [(2u16, 5u16), (3, 100), (99, 100), (16_382, 16_383), (2, 16_383)] {
            for is_random in [false, true] {
                let (mut gap, mut random) = (Gap::default(), Random::new());
                let sampling = Sampling::several(is_random, count, out_of).unwrap();
                for _ in 0..6 {
                    let picked: Vec<u16> = (0..out_of).filter(|_| gap.step(sampling, &mut random)).collect();
                    assert_eq!(picked.len(), usize::from(count));
                    assert!(is_random || picked[0] == out_of - count);
                }
            }
        }
    }

    /// Every choice of two packets of five is as likely as any other, whether they come one by one or in super-frames.
    #[test]
    fn of_several_packets_any_choice_is_as_likely() {
        for segments in [1, 5] {
            let (mut gaps, mut random) = ([Gap::default(); 1], Random::new());
            let sampling = Sampling::several(true, 2, 5).unwrap();
            let mut choices = std::collections::BTreeMap::<u32, u32>::new();
            let mut lasts = 0;
            for _ in 0..100_000 {
                let mut choice = 0;
                for packet in 0..5 / segments {
                    let mut pickers = [picker(sampling, 0)];
                    let share = walk(&mut pickers, &mut gaps, &mut random, segments);
                    lasts += u32::from(share.last && (segments == 5 || packet == 4));
                    choice |= share.packets << (2 * packet);
                }
                *choices.entry(choice).or_default() += 1;
            }
            // Six standard deviations of a binomial.
            assert!((f64::from(lasts) - 40_000.0).abs() < 6.0 * 155.0, "{lasts}");
            let all = if segments == 1 { 10 } else { 1 };
            assert_eq!(choices.len(), all);
            assert!(all == 1 || choices.values().all(|n| (f64::from(*n) - 10_000.0).abs() < 6.0 * 95.0), "{choices:?}");
        }
    }

    #[test]
    fn two_samplers_pick_by_themselves_and_what_either_picks_is_told() {
        let (mut gaps, mut random) = ([Gap::default(); 2], Random::new());
        let mut sums = [0; 3];
        for _ in 0..600 {
            let mut pickers = [picker(one_of(false, 4), 0), picker(one_of(false, 6), 1)];
            let all = walk(&mut pickers, &mut gaps, &mut random, 7);
            sums[0] += pickers[0].share.packets;
            sums[1] += pickers[1].share.packets;
            sums[2] += all.packets;
        }
        // Of 4200 packets every fourth, every sixth, and every twelfth by both.
        assert_eq!(sums, [1050, 700, 1050 + 700 - 350]);
    }

    #[test]
    fn another_rate_begins_anew() {
        let (mut gaps, mut random) = ([Gap::default(); 1], Random::new());
        let mut pick =
            |out_of, segments| walk(&mut [picker(one_of(false, out_of), 0)], &mut gaps, &mut random, segments);
        assert_eq!(pick(100, 99).packets, 0);
        assert_eq!(pick(2, 1).packets, 0);
        assert_eq!(pick(2, 1).packets, 1);
        assert_eq!(pick(100, 100), Share { packets: 1, last: true });
    }

    #[test]
    fn shares_of_a_super_frame_add_up() {
        // Three segments of 1000 octets and one of 400, with 40 of headers, and 14 below.
        let frame =
            Parsed { segments: 4, octets: 3400 + 4 * 40, l2_octets: 3400 + 4 * 54, packet_max: 1040, ..Parsed::EMPTY };
        let share = |packets, last| Share { packets, last };
        assert_eq!(share(4, true).octets(&frame), 3560);
        assert_eq!((share(2, false).octets(&frame), share(2, true).octets(&frame)), (2080, 1040 + 440));
        assert_eq!(share(1, true).amount(&frame), Amount { packets: 1, octets: 454 });
        assert_eq!(share(3, false).amount(&frame), Amount { packets: 3, octets: 3 * 1054 });
        assert_eq!(share(0, false).amount(&frame), Amount::default());
        assert_eq!(
            [share(4, true), share(1, true), share(3, false)].map(|share| share.lengths(&frame)),
            [[440, 1040], [440, 440], [1040, 1040]]
        );
        let padded = Parsed { octets: 20, l2_octets: 60, packet_max: 20, ..Parsed::EMPTY };
        assert_eq!((Share::whole(&padded).octets(&padded), Share::whole(&padded).amount(&padded).octets), (20, 60));
        assert_eq!(Share::whole(&padded).lengths(&padded), [20, 20]);
    }
}
