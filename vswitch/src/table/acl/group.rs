//! Groups of 512 terms, each a table of sets.
//!
//! For every octet of the packet that some term of the group asks for there is a table of 256 sets: the terms that this
//! value suits. Ports have a set for each run of numbers between two of which no term makes a difference. A lookup takes
//! one set by each octet and port and intersects them; the lowest bit left is the first term that matches.
//!
//! * **Octets, not intervals**, for addresses: a wildcard mask may have holes, so what it leaves is no interval. Split by
//!   octets every mask is exact, nothing is left to verify, and there is nothing to search either.
//! * **Ports** are ranges and have no such form. The runs are searched once for the whole list; the groups translate.
//! * Equal sets are kept once, so a list of like rules is small: 160 KiB for 1,000 rules of hosts and services. At the worst
//!   a group of IP terms takes 0.3 MiB, and four octets for each run of ports of the list.
//!
//! Compiling takes time in proportion to the terms, and for the ports to groups x runs, of which there are at most 65,536.

use hashbrown::HashMap;

use super::Found;
use super::term::{Packet, Span, Term};

/// Terms of a group.
pub const GROUP: usize = 512;

/// A set of the terms of a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(align(64))]
struct Bits([u64; GROUP / 64]);

impl Bits {
    const NONE: Bits = Bits([0; GROUP / 64]);

    fn flip(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word ^= 1 << (slot % 64);
        }
    }

    #[inline]
    fn retain(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    fn join(mut self, other: &Bits) -> Bits {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
        self
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The lowest slot in the set.
    #[inline]
    fn first(&self) -> Option<usize> {
        // Most groups of a long list say nothing: one test for all words.
        if self.0.iter().fold(0, |all, word| all | word) == 0 {
            return None;
        }
        let at = self.0.iter().position(|word| *word != 0)?;
        self.0.get(at).map(|word| at * 64 + word.trailing_zeros() as usize)
    }
}

/// The sets of a group, each once.
#[derive(Default)]
struct Pool {
    sets: Vec<Bits>,
    places: HashMap<Bits, u16>,
}

impl Pool {
    /// The place of `set`. A group has at most 16 x 256 + 2 x 1,025 of them.
    fn put(&mut self, set: Bits) -> u16 {
        *self.places.entry(set).or_insert_with(|| {
            self.sets.push(set);
            (self.sets.len() - 1) as u16
        })
    }
}

/// By value, the set that an octet picks.
#[derive(Clone, Debug)]
struct OctetTable {
    /// Which octet of the packet.
    at: usize,
    places: [u16; 256],
}

impl OctetTable {
    /// `None` when no term asks for the octet.
    fn new<const N: usize>(at: usize, terms: &[Term<N>], pool: &mut Pool) -> Option<Self> {
        let asked = |term: &Term<N>| Some((*term.want.get(at)?, *term.care.get(at)?));
        let mut indifferent = Bits::NONE;
        let mut sets = vec![Bits::NONE; 256];
        for (slot, (want, care)) in terms.iter().filter_map(asked).enumerate() {
            if care == 0 {
                indifferent.flip(slot);
                continue;
            }
            for value in suited(want, care) {
                sets.get_mut(usize::from(value)).into_iter().for_each(|set: &mut Bits| set.flip(slot));
            }
        }
        if indifferent.count() == terms.len() {
            return None;
        }
        // Most values mean nothing to most lists.
        let elsewhere = pool.put(indifferent);
        let mut places = [elsewhere; 256];
        for (place, set) in places.iter_mut().zip(sets).filter(|(_, set)| *set != Bits::NONE) {
            *place = pool.put(set.join(&indifferent));
        }
        Some(OctetTable { at, places })
    }
}

/// The values that equal `want` in the bits of `care`.
fn suited(want: u8, care: u8) -> impl Iterator<Item = u8> {
    let free = !care;
    // The subsets of the free bits, from all of them to none.
    let subsets = std::iter::successors(Some(free), move |set| set.checked_sub(1).map(|less| less & free));
    subsets.map(move |set| want & care | set)
}

/// Where runs of ports begin that no term of the list tells apart, but for the first run, which begins at 0.
#[derive(Clone, Debug)]
struct Runs(Vec<u16>);

impl Runs {
    fn new(spans: impl Iterator<Item = Span>) -> Self {
        let mut starts: Vec<u16> = spans
            .flat_map(Span::pieces)
            .flat_map(|(first, last)| [Some(first), last.checked_add(1)])
            .flatten()
            .filter(|start| *start > 0)
            .collect();
        starts.sort_unstable();
        starts.dedup();
        Runs(starts)
    }

    /// The run that `port` is in.
    #[inline]
    fn of(&self, port: u16) -> usize {
        self.0.partition_point(|start| *start <= port)
    }

    /// By run, the set of a group; `None` when none of its terms asks for a port.
    fn table(&self, spans: impl Iterator<Item = Span> + Clone, pool: &mut Pool) -> Option<Vec<u16>> {
        if spans.clone().all(|span| span == Span::ANY) {
            return None;
        }
        let mut flips: Vec<(usize, usize)> = Vec::new();
        for (slot, span) in spans.enumerate() {
            for (first, last) in span.pieces() {
                flips.push((self.of(first), slot));
                flips.extend(last.checked_add(1).map(|end| (self.of(end), slot)));
            }
        }
        flips.sort_unstable();
        let mut table = Vec::with_capacity(self.0.len() + 1);
        let mut set = Bits::NONE;
        for same_run in flips.chunk_by(|a, b| a.0 == b.0) {
            // The runs before this one have the set so far.
            let run = same_run.first().map_or(0, |flip| flip.0);
            if run > table.len() {
                let place = pool.put(set);
                table.resize(run, place);
            }
            same_run.iter().for_each(|(_, slot)| set.flip(*slot));
        }
        table.resize(self.0.len() + 1, pool.put(set));
        Some(table)
    }
}

/// Up to 512 terms.
#[derive(Clone, Debug)]
struct Group {
    octets: Vec<OctetTable>,
    src_ports: Option<Vec<u16>>,
    dst_ports: Option<Vec<u16>>,
    sets: Vec<Bits>,
    /// Every term, and those that a later fragment can match.
    all: Bits,
    fragments: Bits,
    founds: Vec<Found>,
}

impl Group {
    fn new<const N: usize>(terms: &[Term<N>], src_runs: &Runs, dst_runs: &Runs) -> Self {
        let mut pool = Pool::default();
        let (mut all, mut fragments) = (Bits::NONE, Bits::NONE);
        for (slot, term) in terms.iter().enumerate() {
            all.flip(slot);
            if term.fragments {
                fragments.flip(slot);
            }
        }
        Group {
            octets: (0..N).filter_map(|at| OctetTable::new(at, terms, &mut pool)).collect(),
            src_ports: src_runs.table(terms.iter().map(|term| term.src_ports), &mut pool),
            dst_ports: dst_runs.table(terms.iter().map(|term| term.dst_ports), &mut pool),
            sets: pool.sets,
            all,
            fragments,
            founds: terms.iter().map(|term| term.found).collect(),
        }
    }

    /// `runs` are those of the ports; `None` for a later fragment.
    #[inline]
    fn find<const N: usize>(&self, octets: &[u8; N], runs: Option<(usize, usize)>) -> Option<Found> {
        let mut left = if runs.is_some() { self.all } else { self.fragments };
        let mut retain = |place: u16| {
            if let Some(set) = self.sets.get(usize::from(place)) {
                left.retain(set);
            }
        };
        for table in &self.octets {
            let octet = octets.get(table.at).copied().unwrap_or(0);
            table.places.get(usize::from(octet)).copied().into_iter().for_each(&mut retain);
        }
        if let Some((src, dst)) = runs {
            let ports = [(&self.src_ports, src), (&self.dst_ports, dst)];
            let places = ports.iter().filter_map(|(table, run)| table.as_ref()?.get(*run));
            places.copied().for_each(&mut retain);
        }
        left.first().and_then(|slot| self.founds.get(slot)).copied()
    }

    fn octets(&self) -> usize {
        let ports =
            [&self.src_ports, &self.dst_ports].iter().map(|table| table.as_ref().map_or(0, Vec::len)).sum::<usize>();
        self.sets.len() * size_of::<Bits>() + self.octets.len() * size_of::<OctetTable>() + 2 * ports
    }
}

/// A list of terms over `N` octets.
#[derive(Clone, Debug)]
pub struct Groups<const N: usize> {
    groups: Vec<Group>,
    src_runs: Runs,
    dst_runs: Runs,
}

impl<const N: usize> Groups<N> {
    /// Compiles `terms`, the first of which comes first.
    pub fn new(terms: &[Term<N>]) -> Self {
        let src_runs = Runs::new(terms.iter().map(|term| term.src_ports));
        let dst_runs = Runs::new(terms.iter().map(|term| term.dst_ports));
        let groups = terms.chunks(GROUP).map(|some| Group::new(some, &src_runs, &dst_runs)).collect();
        Groups { groups, src_runs, dst_runs }
    }

    /// What the first term says that matches.
    #[inline]
    pub fn find(&self, packet: &Packet<N>) -> Option<Found> {
        let runs = packet.ports.map(|(src, dst)| (self.src_runs.of(src), self.dst_runs.of(dst)));
        self.groups.iter().find_map(|group| group.find(&packet.octets, runs))
    }

    /// Octets of memory that the tables take.
    pub fn octets(&self) -> usize {
        self.groups.iter().map(Group::octets).sum()
    }
}
