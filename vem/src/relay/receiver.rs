//! The receiver's side: a stream's datagrams to its collectors, without sockets.
//!
//! A [`Session`](super::session::Session) is a connection, a [`Stream`] what outlives connections. Datagrams come in order and wait in memory until each
//! collector has them; how far each is, the stream's [`Outbox`] knows in a file. A number is acknowledged when every collector has it
//! and the file is on the disk. So a sender may forget what is acknowledged, and sends the rest again; what comes
//! again and was delivered is passed over.
//!
//! **Once.** The kernel notes the delivery in the file in the system call that sends ([`vswitch::port::datagram`]), so the
//! death of the receiver at whatever instant leaves no doubt. Two doubts remain, and are counted when they are met: the
//! machine dies (what was delivered since the file was last on the disk comes again), and a receiver dies between a
//! collector's refusal and its notice of it.
//!
//! Limits: a window of frames for each stream.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use vswitch::port::datagram::Outbox;

use super::wire::{Data, Error as WireError, Gap, StreamId};

/// Octets of frames that a sender may have under way.
pub const WINDOW: u32 = 4 << 20;
/// What a sender may send before it is ended for not keeping to it.
const WINDOW_HARD: usize = 2 * WINDOW as usize;

/// Why a connection ends.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// What came is no frame.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A frame that has no place here.
    #[error("the sender said what makes no sense")]
    Nonsense,
    /// Numbers are left out that were not announced.
    #[error("number {found} came where {expected} was due")]
    Order {
        /// What was due.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// More than a window is under way.
    #[error("the sender does not wait for acknowledgements")]
    Window,
    /// Nothing was heard.
    #[error("the sender is silent")]
    Silent,
}

/// What became of an attempt to deliver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// The collector's socket has it.
    Done,
    /// Later.
    Wait,
    /// There is nobody: later, and the collector counts as away.
    Away,
}

/// Who takes datagrams to collectors.
pub trait Deliver {
    /// Sends a datagram to a collector through the outbox.
    fn deliver(&mut self, outbox: &Outbox, collector: usize, data: &Data) -> Delivery;
}

/// What happened to a stream since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Datagrams that came for the first time.
    pub received: u64,
    /// Datagrams that came again and were passed over.
    pub again: u64,
    /// Datagrams whose loss was announced.
    pub lost: u64,
    /// Gaps.
    pub gaps: u64,
    /// Deliveries, each collector's.
    pub delivered: u64,
    /// Deliveries of which a receiver that died did not hear whether they were refused.
    pub doubtful: u64,
}

enum Item {
    Data(Data),
    /// Up to this number nothing will come.
    Gap(u64),
}

impl Item {
    fn number(&self) -> u64 {
        match self {
            Item::Data(data) => data.number,
            Item::Gap(last) => *last,
        }
    }

    fn octets(&self) -> usize {
        match self {
            Item::Data(data) => data.octets.len() + super::wire::DATA_OVERHEAD,
            Item::Gap(_) => 0,
        }
    }
}

/// A stream, over all its connections.
pub struct Stream {
    id: StreamId,
    outbox: Outbox,
    collectors: usize,
    items: VecDeque<Item>,
    octets: usize,
    received: u64,
    synced: u64,
    counts: Counts,
    /// Name of the sender.
    pub name: String,
    /// Numbers that were lost last.
    pub last_gap: Option<Gap>,
}

impl Stream {
    /// Opens the stream's file, or makes it.
    ///
    /// # Errors
    /// It can't be used.
    pub fn open(dir: &Path, id: StreamId, collectors: usize) -> io::Result<Self> {
        let outbox = Outbox::open(&dir.join(format!("{}.stream", hex(&id))))?;
        let mut counts = Counts::default();
        for collector in 0..collectors {
            if let Some(number) = outbox.progress(collector).unheard {
                // A collector that was away has most likely refused this one too.
                match outbox.is_away(collector) {
                    true => counts.doubtful += 1,
                    false => outbox.set_sent(collector, number),
                }
            }
        }
        let mut stream = Stream {
            id,
            outbox,
            collectors,
            items: VecDeque::new(),
            octets: 0,
            received: 0,
            synced: 0,
            counts,
            name: String::new(),
            last_gap: None,
        };
        (stream.received, stream.synced) = (stream.delivered(), stream.delivered());
        Ok(stream)
    }

    /// The stream's name.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Highest number that every collector has.
    pub fn delivered(&self) -> u64 {
        (0..self.collectors).map(|collector| self.outbox.progress(collector).sent).min().unwrap_or_default()
    }

    /// Highest number that a collector has.
    pub fn delivered_to(&self, collector: usize) -> u64 {
        self.outbox.progress(collector).sent
    }

    /// Whether a collector was away when it was last tried.
    pub fn is_away(&self, collector: usize) -> bool {
        self.outbox.is_away(collector)
    }

    /// Highest number that has come.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A connection begins: what has not been delivered comes again.
    pub(super) fn begin(&mut self, acked: u64, name: String) {
        self.items.clear();
        self.octets = 0;
        self.name = name;
        for collector in 0..self.collectors {
            // Acknowledged by a receiver whose file is lost; also for a collector that is new.
            if self.outbox.progress(collector).sent < acked {
                self.outbox.set_sent(collector, acked);
            }
        }
        self.received = self.delivered();
    }

    pub(super) fn take(&mut self, data: Data) -> Result<(), Error> {
        if data.number <= self.received {
            self.counts.again += 1;
            return Ok(());
        }
        if data.number != self.received + 1 {
            return Err(Error::Order { expected: self.received + 1, found: data.number });
        }
        self.received = data.number;
        self.counts.received += 1;
        self.put(Item::Data(data))
    }

    fn put(&mut self, item: Item) -> Result<(), Error> {
        self.octets += item.octets();
        self.items.push_back(item);
        if self.octets > WINDOW_HARD { Err(Error::Window) } else { Ok(()) }
    }

    pub(super) fn take_gap(&mut self, gap: Gap) -> Result<(), Error> {
        if gap.last <= self.received {
            return Ok(());
        }
        if gap.first != self.received + 1 {
            return Err(Error::Order { expected: self.received + 1, found: gap.first });
        }
        let name = &self.name;
        tracing::warn!(
            sender = name,
            first = gap.first,
            last = gap.last,
            "{} datagrams are lost {}",
            gap.lost,
            gap.reason.words()
        );
        self.counts.gaps += 1;
        self.counts.lost += gap.lost;
        self.last_gap = Some(gap);
        self.received = gap.last;
        self.put(Item::Gap(gap.last))
    }

    /// Sends what waits, up to `most` datagrams to each collector, and says whether more could be sent at once.
    pub fn deliver(&mut self, to: &mut impl Deliver, most: usize) -> bool {
        let mut more = false;
        for collector in 0..self.collectors {
            let sent = self.outbox.progress(collector).sent;
            let start = self.items.partition_point(|item| item.number() <= sent);
            let mut left = most;
            for item in self.items.iter().skip(start) {
                if left == 0 {
                    more = true;
                    break;
                }
                left -= 1;
                if let Item::Data(data) = item {
                    let outcome = to.deliver(&self.outbox, collector, data);
                    if self.outbox.is_away(collector) != (outcome == Delivery::Away) && outcome != Delivery::Wait {
                        self.outbox.set_away(collector, outcome == Delivery::Away);
                    }
                    if outcome != Delivery::Done {
                        break;
                    }
                    self.counts.delivered += 1;
                }
                self.outbox.set_sent(collector, item.number());
            }
        }
        let delivered = self.delivered();
        while self.items.front().is_some_and(|item| item.number() <= delivered) {
            self.octets -= self.items.pop_front().map_or(0, |item| item.octets());
        }
        more
    }

    /// Highest number that every collector has, by what is on the disk.
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// Has the disk know what was delivered; then it may be acknowledged.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&mut self) -> io::Result<()> {
        let delivered = self.delivered();
        if self.synced < delivered {
            self.outbox.sync()?;
            self.synced = delivered;
        }
        Ok(())
    }
}

/// Octets as hexadecimal digits.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
