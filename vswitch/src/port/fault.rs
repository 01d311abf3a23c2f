//! Another port behind a bad cable: frames that it receives get lost, damaged, cut, doubled or overtaken.
//!
//! Chance comes from a seed alone, so a run can be repeated: the same frames in the same batches meet the same faults.
//! What is sent through the port passes as it is; put a fault on the other side for that.
//!
//! Complications. A held-back frame is delivered in the next `rx`, so the port must be polled even when the other has
//! nothing: it offers no readiness. A damaged frame whose checksum was left to us (`NEEDS_CSUM`) would get a valid checksum
//! over its damage, as on a real path behind a checksumming device; use a port without offloads to have damage noticed.

use super::{Error, Offloads, Port, Sent};
use crate::frame::{Buffer, TxFrame};

/// How often which fault happens: probabilities from 0 to 1, each tried on every frame.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct FaultPlan {
    /// The frame never arrives.
    pub loss: f64,
    /// One to eight bits are inverted.
    pub corrupt: f64,
    /// Its end is missing.
    pub truncate: f64,
    /// It arrives twice.
    pub duplicate: f64,
    /// It arrives behind later frames: at the end of the next batch.
    pub reorder: f64,
    /// Where chance begins.
    pub seed: u64,
}

/// How often which fault has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultCounts {
    /// Frames received from the other port.
    pub received: u64,
    /// Frames lost.
    pub lost: u64,
    /// Frames damaged.
    pub corrupted: u64,
    /// Frames cut.
    pub truncated: u64,
    /// Frames doubled.
    pub duplicated: u64,
    /// Frames held back.
    pub reordered: u64,
}

/// A port behind faults.
pub struct Fault {
    inner: Box<dyn Port>,
    plan: FaultPlan,
    chance: Chance,
    counts: FaultCounts,
    /// The frame that is held back.
    held: Buffer,
    holding: bool,
}

impl Fault {
    /// The other port behind these faults.
    pub fn new(inner: Box<dyn Port>, plan: FaultPlan) -> Self {
        let held = Buffer::new(0);
        Fault { inner, plan, chance: Chance(plan.seed), counts: FaultCounts::default(), held, holding: false }
    }

    /// What has happened so far.
    pub fn counts(&self) -> FaultCounts {
        self.counts
    }

    /// The faults that change a frame.
    fn damage(&mut self, buffer: &mut Buffer) {
        let len = buffer.frame().len();
        if len > 0 && self.chance.happens(self.plan.corrupt) {
            for _ in 0..1 + self.chance.below(8) {
                let at = self.chance.below(len);
                let bit = 1 << self.chance.below(8);
                if let Some(octet) = buffer.frame_mut().get_mut(at) {
                    *octet ^= bit;
                }
            }
            self.counts.corrupted += 1;
        }
        if len > 0 && self.chance.happens(self.plan.truncate) {
            buffer.set_len(self.chance.below(len));
            self.counts.truncated += 1;
        }
    }

    /// Sends the frames of `buffers[..arrived]` through the faults, and returns how many are there then.
    fn pass(&mut self, buffers: &mut [Buffer], arrived: usize) -> usize {
        let hold = self.holding;
        let mut kept = 0;
        // Frames before `kept` are through, those from `next` on are to come; twins wait behind all that arrived.
        let mut twins = arrived;
        for next in 0..arrived {
            self.counts.received += 1;
            if self.chance.happens(self.plan.loss) {
                self.counts.lost += 1;
                continue;
            }
            if let Some(buffer) = buffers.get_mut(next) {
                self.damage(buffer);
            }
            if self.chance.happens(self.plan.duplicate)
                && let Some((before, [twin, ..])) = buffers.split_at_mut_checked(twins)
                && let Some(buffer) = before.get(next)
            {
                twin.fill(buffer.frame(), buffer.vnet);
                twins += 1;
                self.counts.duplicated += 1;
            }
            if !self.holding
                && self.chance.happens(self.plan.reorder)
                && let Some(buffer) = buffers.get_mut(next)
            {
                std::mem::swap(buffer, &mut self.held);
                self.holding = true;
                self.counts.reordered += 1;
                continue;
            }
            buffers.swap(kept, next);
            kept += 1;
        }
        for twin in arrived..twins {
            buffers.swap(kept, twin);
            kept += 1;
        }
        if hold && let Some(buffer) = buffers.get_mut(kept) {
            std::mem::swap(buffer, &mut self.held);
            self.holding = false;
            kept += 1;
        }
        kept
    }
}

impl Port for Fault {
    fn sender(&mut self) -> Result<Box<dyn Port>, Error> {
        self.inner.sender()
    }

    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error> {
        // Every frame may be doubled and one comes out of hold: half of the buffers but one always suffice.
        let share = (buffers.len().saturating_sub(1) / 2).max(1);
        let arrived = match buffers.get_mut(..share) {
            Some(share) => self.inner.rx(share),
            None => Ok(0),
        };
        match arrived {
            Ok(arrived) => Ok(self.pass(buffers, arrived)),
            Err(Error::Gone) if self.holding => Ok(self.pass(buffers, 0)),
            Err(error) => Err(error),
        }
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        self.inner.tx(frames)
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn missed(&mut self) -> u64 {
        self.inner.missed()
    }
}

/// A stream of chance (splitmix64): not for secrets.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True in the given share of cases.
    fn happens(&mut self, probability: f64) -> bool {
        // 53 bits: every value is exact in an f64.
        probability > 0.0 && ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::vnet::VnetHdr;
    use crate::port::memory::{MemoryEnd, pair};

    fn faulty(plan: FaultPlan) -> (Fault, MemoryEnd, Vec<Buffer>) {
        let (port, end) = pair(4096, Offloads::NONE);
        (Fault::new(Box::new(port), plan), end, (0..64).map(Buffer::new).collect())
    }

    /// Sends numbered frames of 100 octets and gives what comes out.
    fn through(plan: FaultPlan, count: u32) -> (Vec<Vec<u8>>, FaultCounts) {
        let (mut port, mut end, mut buffers) = faulty(plan);
        for number in 0..count {
            let frame: Vec<u8> = number.to_be_bytes().into_iter().chain([0x55; 96]).collect();
            assert!(end.send(&frame, VnetHdr::PLAIN));
        }
        let mut got = Vec::new();
        let mut idle = 0;
        while idle < 2 {
            let received = port.rx(&mut buffers).unwrap();
            got.extend(buffers[..received].iter().map(|buffer| buffer.frame().to_vec()));
            idle = if received == 0 { idle + 1 } else { 0 };
        }
        (got, port.counts())
    }

    fn number(frame: &[u8]) -> u32 {
        u32::from_be_bytes(*frame.first_chunk().unwrap())
    }

    #[test]
    fn without_faults_frames_pass_as_they_are() {
        let (got, counts) = through(FaultPlan::default(), 300);
        assert!(got.iter().enumerate().all(|(i, frame)| number(frame) == i as u32 && frame[4..] == [0x55; 96]));
        assert_eq!(counts, FaultCounts { received: 300, ..FaultCounts::default() });
    }

    #[test]
    fn each_fault_does_what_it_counts_about_as_often_as_planned() {
        let about = |count: u64| (800..1200).contains(&count);
        let (got, counts) = through(FaultPlan { loss: 0.25, seed: 1, ..FaultPlan::default() }, 4000);
        assert!(about(counts.lost) && got.len() as u64 == 4000 - counts.lost, "{counts:?}");
        let (got, counts) = through(FaultPlan { corrupt: 0.25, seed: 2, ..FaultPlan::default() }, 4000);
        // An even number of flips may fall on one bit and undo itself.
        let damaged =
            got.iter().enumerate().filter(|(i, f)| number(f) != *i as u32 || f[4..] != [0x55; 96]).count() as u64;
        assert!(
            about(counts.corrupted) && damaged <= counts.corrupted && damaged > counts.corrupted * 9 / 10,
            "{counts:?}"
        );
        let (got, counts) = through(FaultPlan { truncate: 0.25, seed: 3, ..FaultPlan::default() }, 4000);
        let short = got.iter().filter(|frame| frame.len() < 100).count() as u64;
        assert!(about(counts.truncated) && short == counts.truncated, "{counts:?}");
        let (got, counts) = through(FaultPlan { duplicate: 0.25, seed: 4, ..FaultPlan::default() }, 4000);
        assert!(about(counts.duplicated) && got.len() as u64 == 4000 + counts.duplicated, "{counts:?}");
        let mut numbers: Vec<u32> = got.iter().map(|frame| number(frame)).collect();
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), 4000);
    }

    #[test]
    fn a_frame_that_is_held_back_comes_behind_later_ones_and_none_is_lost() {
        let (got, counts) = through(FaultPlan { reorder: 0.1, seed: 5, ..FaultPlan::default() }, 2000);
        assert_eq!(got.len(), 2000);
        let late = got.windows(2).filter(|pair| number(&pair[1]) < number(&pair[0])).count();
        assert!(counts.reordered > 20 && late > 20, "{counts:?}, {late} late");
        let (mut port, mut end, mut buffers) = faulty(FaultPlan { reorder: 1.0, ..FaultPlan::default() });
        assert!(end.send(b"one", VnetHdr::PLAIN));
        assert_eq!(port.rx(&mut buffers).unwrap(), 0);
        drop(end);
        // Also when the other port went away meanwhile.
        assert_eq!(port.rx(&mut buffers).unwrap(), 1);
        assert_eq!(buffers[0].frame(), b"one");
        assert!(matches!(port.rx(&mut buffers), Err(Error::Gone)));
    }

    #[test]
    fn all_faults_at_once_balance_and_repeat_with_the_seed() {
        let plan = FaultPlan { loss: 0.1, corrupt: 0.1, truncate: 0.1, duplicate: 0.1, reorder: 0.1, seed: 6 };
        let (got, counts) = through(plan, 3000);
        assert_eq!(got.len() as u64, counts.received - counts.lost + counts.duplicated);
        assert_eq!(through(plan, 3000), (got.clone(), counts));
        assert_ne!(through(FaultPlan { seed: 7, ..plan }, 3000).0, got);
    }

    #[test]
    fn a_single_buffer_suffices() {
        let plan = FaultPlan { duplicate: 0.5, reorder: 0.5, seed: 8, ..FaultPlan::default() };
        let (mut port, mut end, mut buffers) = faulty(plan);
        for _ in 0..100 {
            assert!(end.send(b"frame", VnetHdr::PLAIN));
        }
        let got: usize = (0..400).map(|_| port.rx(&mut buffers[..1]).unwrap()).sum();
        assert_eq!((got as u64, port.counts().duplicated), (100, 0));
        assert_eq!(port.rx(&mut []).unwrap(), 0);
    }

    #[test]
    fn sending_meets_no_faults() {
        let (mut port, mut end, _) = faulty(FaultPlan { loss: 1.0, corrupt: 1.0, ..FaultPlan::default() });
        let frame = TxFrame { head: b"", rest: b"frame", vnet: VnetHdr::PLAIN, copy: false };
        assert_eq!(port.tx(&[frame; 3]).accepted, 3);
        assert_eq!(end.recv(), Some((b"frame".to_vec(), VnetHdr::PLAIN)));
        assert_eq!(port.offloads(), Offloads::NONE);
    }
}
