//! A datagram in the making, for the two versions with templates: sets of records, each behind an id and a length.
//!
//! A set is padded to four octets (RFC 3954 section 5, RFC 7011 section 3.3.1); no record is shorter than that, so the
//! padding can't be taken for one.

/// What a datagram holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weight {
    /// Templates and options templates.
    pub templates: u32,
    /// Records of options data.
    pub options: u32,
    /// Records of flows.
    pub flows: u32,
    /// Packets in those flows.
    pub packets: u64,
    /// Octets in those flows.
    pub octets: u64,
}

impl Weight {
    /// One template.
    pub const TEMPLATE: Weight = Weight { templates: 1, options: 0, flows: 0, packets: 0, octets: 0 };
    /// One record of options data.
    pub const OPTIONS: Weight = Weight { templates: 0, options: 1, flows: 0, packets: 0, octets: 0 };

    /// One flow.
    pub const fn flow(packets: u64, octets: u64) -> Self {
        Weight { templates: 0, options: 0, flows: 1, packets, octets }
    }

    /// Adds another.
    pub fn add(&mut self, other: Weight) {
        self.templates += other.templates;
        self.options += other.options;
        self.flows += other.flows;
        self.packets = self.packets.saturating_add(other.packets);
        self.octets = self.octets.saturating_add(other.octets);
    }
}

/// A finished datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// Payload.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub weight: Weight,
}

/// Octets before the records of a set.
pub const SET_HEADER: usize = 4;

/// The sets of a datagram that is not finished.
#[derive(Debug)]
pub struct Message {
    room: usize,
    closed: Vec<u8>,
    set: Option<(u16, Vec<u8>)>,
    weight: Weight,
}

impl Message {
    /// An empty one for `room` octets of sets.
    pub fn new(room: usize) -> Self {
        Message { room, closed: Vec::new(), set: None, weight: Weight::default() }
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.weight == Weight::default()
    }

    /// A record of `length` octets in set `id` fits, or there is nothing that it could have to wait for.
    pub fn fits(&self, id: u16, length: usize) -> bool {
        let length = match &self.set {
            Some((open, records)) if *open == id => padded(SET_HEADER + records.len() + length),
            Some((_, records)) => padded(SET_HEADER + records.len()) + padded(SET_HEADER + length),
            None => padded(SET_HEADER + length),
        };
        self.is_empty() || self.closed.len() + length <= self.room
    }

    /// Adds a record to set `id`.
    pub fn put(&mut self, id: u16, record: &[u8], weight: Weight) {
        if self.set.as_ref().is_some_and(|(open, _)| *open != id) {
            self.close_set();
        }
        self.set.get_or_insert_with(|| (id, Vec::new())).1.extend_from_slice(record);
        self.weight.add(weight);
    }

    /// Ends the set: the next record begins another one, even of the same id.
    pub fn close_set(&mut self) {
        let Some((id, records)) = self.set.take() else { return };
        let length = padded(SET_HEADER + records.len());
        self.closed.extend(id.to_be_bytes());
        self.closed.extend((length as u16).to_be_bytes());
        self.closed.extend(&records);
        self.closed.extend(std::iter::repeat_n(0, length - SET_HEADER - records.len()));
    }

    /// The sets, and what is in them.
    pub fn finish(mut self) -> (Vec<u8>, Weight) {
        self.close_set();
        (self.closed, self.weight)
    }
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_padded_and_split_by_id() {
        let mut message = Message::new(100);
        message.put(256, &[1, 2, 3, 4, 5], Weight::flow(1, 10));
        message.put(256, &[6, 7, 8, 9, 10], Weight::flow(1, 10));
        message.put(257, &[1, 1, 1, 1], Weight::OPTIONS);
        let (bytes, weight) = message.finish();
        let expected: [u8; 24] = [1, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, 1, 1, 0, 8, 1, 1, 1, 1];
        assert_eq!(bytes, expected);
        assert_eq!(weight, Weight { templates: 0, options: 1, flows: 2, packets: 2, octets: 20 });
    }

    #[test]
    fn room_counts_headers_and_padding() {
        let mut message = Message::new(16);
        message.put(256, &[0; 5], Weight::OPTIONS);
        assert!(message.fits(256, 7));
        assert!(!message.fits(256, 8));
        assert!(!message.fits(257, 1), "12 for the open set, 8 for another");
        message.close_set();
        assert!(!message.fits(256, 4));
    }

    #[test]
    fn what_is_larger_than_the_room_goes_alone() {
        let message = Message::new(8);
        assert!(message.is_empty() && message.fits(256, 100));
    }

    #[test]
    fn a_closed_set_is_not_continued() {
        let mut message = Message::new(100);
        message.put(0, &[0; 4], Weight::TEMPLATE);
        message.close_set();
        message.put(0, &[0; 4], Weight::TEMPLATE);
        assert_eq!(message.finish().0, [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0]);
    }
}
