//! Which worker receives from which port: one move at a time, and only when it is worth it.
//!
//! Pure: loads in, a move out. The busiest worker gives a port to the idlest, so that the busier of the two is then at
//! least a quarter less busy than the busiest was before. That is the hysteresis: the move back would never be worth it
//! under the same load. A switch that has little to do is left alone.

use crate::port::PortId;

/// A worker that is busy for less than this part of the time needs no help.
const BUSY_MIN: u64 = 10;

/// What a worker did in an interval.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Nanoseconds that it was busy.
    pub busy_ns: u64,
    /// Of these, by port.
    pub ports: Vec<(PortId, u64)>,
}

impl Load {
    fn of(&self, port: PortId) -> u64 {
        self.ports.iter().filter(|(id, _)| *id == port).map(|(_, ns)| ns).sum()
    }
}

/// Workers `from` and `to` swap their handles of `port`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// The port.
    pub port: PortId,
    /// Index of the worker that receives from it.
    pub from: usize,
    /// Index of the worker that will.
    pub to: usize,
}

/// The move that helps most, for what the workers did in the last `interval_ns`, if one helps enough.
pub fn choose(loads: &[Load], interval_ns: u64) -> Option<Move> {
    let (from, busiest) = loads.iter().enumerate().max_by_key(|(_, load)| load.busy_ns)?;
    let (to, idlest) = loads.iter().enumerate().min_by_key(|(_, load)| load.busy_ns)?;
    if from == to || busiest.busy_ns < interval_ns / BUSY_MIN {
        return None;
    }
    // With several queues the idlest may receive from the port as well: then it gives what it gets.
    let after = |port: PortId, ns: u64| {
        let theirs = idlest.of(port);
        let (gives, gets) = (busiest.busy_ns.saturating_sub(ns) + theirs, idlest.busy_ns.saturating_sub(theirs) + ns);
        gives.max(gets)
    };
    let (port, worst) =
        busiest.ports.iter().map(|(port, ns)| (*port, after(*port, *ns))).min_by_key(|(_, worst)| *worst)?;
    (worst < busiest.busy_ns / 4 * 3).then_some(Move { port, from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn load(ports: &[(u16, u64)]) -> Load {
        let ports: Vec<_> = ports.iter().map(|(id, ns)| (PortId(*id), *ns)).collect();
        Load { busy_ns: ports.iter().map(|(_, ns)| ns).sum(), ports }
    }

    #[test]
    fn the_port_that_evens_out_best_moves_from_the_busiest_to_the_idlest() {
        let loads = [load(&[(1, 10 * S)]), load(&[(2, 20 * S), (3, 12 * S), (4, 4 * S)]), load(&[(5, 2 * S)])];
        assert_eq!(choose(&loads, 60 * S), Some(Move { port: PortId(2), from: 1, to: 2 }));
        let even = [load(&[(1, 20 * S)]), load(&[(2, 20 * S)]), load(&[])];
        assert_eq!(choose(&even, 60 * S), None, "one port can't be split");
    }

    #[test]
    fn nothing_moves_for_a_quarter_or_less_nor_when_there_is_little_to_do() {
        let loads = |small: u64| [load(&[(1, 30 * S), (2, small)]), load(&[(3, 28 * S)])];
        assert_eq!(choose(&loads(8 * S), 60 * S), None);
        let worth = [load(&[(1, 20 * S), (2, 20 * S)]), load(&[(3, 9 * S)])];
        assert_eq!(choose(&worth, 60 * S).map(|m| m.from), Some(0));
        let nearly = [load(&[(1, 20 * S), (2, 20 * S)]), load(&[(3, 10 * S)])];
        assert_eq!(choose(&nearly, 60 * S), None);
        let quiet = [load(&[(1, S), (2, S)]), load(&[])];
        assert_eq!(choose(&quiet, 60 * S), None);
        assert_eq!(choose(&[load(&[(1, 60 * S), (2, 60 * S)])], 60 * S), None, "one worker");
        assert_eq!(choose(&[], 60 * S), None);
    }

    #[test]
    fn queues_of_one_port_are_counted_at_both_ends() {
        let loads = [load(&[(1, 30 * S), (2, 10 * S)]), load(&[(1, 5 * S)])];
        // Swapping the queues of port 1 would only change sides.
        assert_eq!(choose(&loads, 60 * S), None);
        let loads = [load(&[(1, 20 * S), (2, 16 * S)]), load(&[(1, 4 * S)])];
        assert_eq!(choose(&loads, 60 * S), Some(Move { port: PortId(1), from: 0, to: 1 }));
    }

    /// Whatever the loads are, plans come to rest: a plan never leads back, and there are not many.
    #[test]
    fn plans_settle() {
        let mut seed = 5u64;
        let mut draw = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for _ in 0..500 {
            let mut ports: Vec<Vec<(u16, u64)>> = vec![Vec::new(); 2 + draw(4) as usize];
            for id in 0..draw(20) as u16 {
                let at = draw(ports.len() as u64) as usize;
                ports[at].push((id, draw(20 * S)));
            }
            let mut moves = 0;
            loop {
                let loads: Vec<Load> = ports.iter().map(|list| load(list)).collect();
                let worst = loads.iter().map(|l| l.busy_ns).max();
                let Some(Move { port, from, to }) = choose(&loads, 60 * S) else { break };
                let at = ports[from].iter().position(|(id, _)| *id == port.0).unwrap();
                let moved = ports[from].remove(at);
                ports[to].push(moved);
                assert!(ports.iter().map(|list| load(list).busy_ns).max() <= worst);
                moves += 1;
                assert!(moves < 60);
            }
        }
    }
}
