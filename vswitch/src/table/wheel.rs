//! Timers of many entries, without a scan: two rings of lists, threaded through entry numbers.
//!
//! The inner ring has 256 slots of [`TICK_MS`], the outer 256 slots of 256 ticks. Arming and disarming link and unlink one
//! number. Nothing is moved from ring to ring in bulk: when an outer slot's time has come its entries are handed out one
//! by one like due ones, and the owner, who must compare with the clock anyway, arms those again that are not due. So a
//! turn does as much as it has a budget for, and a wheel that is behind catches up later.

/// Milliseconds of a tick.
pub const TICK_MS: u64 = 100;

const SLOTS: u64 = 256;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    prev: u32,
    /// List it is in, `NONE` when in none.
    slot: u32,
}

/// The wheel.
pub struct Wheel {
    links: Vec<Link>,
    heads: Vec<u32>,
    tick: u64,
    armed: usize,
}

impl Wheel {
    /// For entries `0..capacity`.
    pub fn new(capacity: usize) -> Self {
        Wheel {
            links: vec![Link { next: NONE, prev: NONE, slot: NONE }; capacity],
            heads: vec![NONE; 2 * SLOTS as usize],
            tick: 0,
            armed: 0,
        }
    }

    /// How many entries are armed.
    pub fn armed(&self) -> usize {
        self.armed
    }

    /// `entry` is handed out once, not before `at_ms` unless that is far away, and at the next tick at the earliest.
    pub fn arm(&mut self, entry: u32, at_ms: u64) {
        self.disarm(entry);
        let tick = at_ms.div_ceil(TICK_MS).max(self.tick + 1);
        let slot = if tick - self.tick < SLOTS {
            tick % SLOTS
        } else {
            let outer = (tick / SLOTS).min(self.tick / SLOTS + SLOTS - 1);
            SLOTS + outer % SLOTS
        };
        let Some(head) = self.heads.get_mut(slot as usize) else { return };
        let next = *head;
        let Some(link) = self.links.get_mut(entry as usize) else { return };
        *link = Link { next, prev: NONE, slot: slot as u32 };
        *head = entry;
        if let Some(link) = self.links.get_mut(next as usize) {
            link.prev = entry;
        }
        self.armed += 1;
    }

    /// `entry` is not handed out.
    pub fn disarm(&mut self, entry: u32) {
        let Some(link) = self.links.get_mut(entry as usize) else { return };
        let was = *link;
        if was.slot == NONE {
            return;
        }
        link.slot = NONE;
        if let Some(next) = self.links.get_mut(was.next as usize) {
            next.prev = was.prev;
        }
        match self.links.get_mut(was.prev as usize) {
            Some(prev) => prev.next = was.next,
            None => {
                if let Some(head) = self.heads.get_mut(was.slot as usize) {
                    *head = was.next;
                }
            }
        }
        self.armed -= 1;
    }

    /// An entry whose time may have come by `now_ms`, disarmed; `None` when there is none.
    pub fn due(&mut self, now_ms: u64) -> Option<u32> {
        let now = now_ms / TICK_MS;
        if self.armed == 0 {
            self.tick = self.tick.max(now);
            return None;
        }
        loop {
            let outer = (SLOTS + self.tick / SLOTS % SLOTS) as usize;
            let inner = (self.tick % SLOTS) as usize;
            for slot in [outer, inner] {
                if let Some(&entry) = self.heads.get(slot)
                    && entry != NONE
                {
                    self.disarm(entry);
                    return Some(entry);
                }
            }
            if self.tick >= now {
                return None;
            }
            self.tick += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random timers against a plain list; every entry must come out within one tick after its time.
    #[test]
    fn every_timer_fires_once_and_in_time() {
        let mut wheel = Wheel::new(500);
        let mut deadlines = vec![None::<u64>; 500];
        let mut seed = 3u64;
        let mut draw = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        let mut now = 0;
        for _ in 0..20_000 {
            now += draw(700);
            let entry = draw(500) as u32;
            if draw(8) == 0 {
                wheel.disarm(entry);
                deadlines[entry as usize] = None;
            } else {
                let far = [900, 30_000, 4_000_000, 40_000_000][draw(4) as usize];
                let at = now + draw(far);
                wheel.arm(entry, at);
                deadlines[entry as usize] = Some(at);
            }
            while let Some(entry) = wheel.due(now) {
                let at = deadlines[entry as usize].expect("a disarmed entry was handed out");
                if now >= at {
                    deadlines[entry as usize] = None;
                } else {
                    wheel.arm(entry, at);
                }
            }
            assert_eq!(wheel.armed(), deadlines.iter().flatten().count());
            for at in deadlines.iter().flatten() {
                assert!(now < at + 2 * TICK_MS, "late: {at} at {now}");
            }
        }
    }
}
