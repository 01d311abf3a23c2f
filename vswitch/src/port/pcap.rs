//! Capture files as ports: one that receives what a file holds, one that writes down what it is given.
//!
//! The format is pcap with link type Ethernet; the reader takes both byte orders and both resolutions, the writer makes
//! nanoseconds. The reader goes as fast as it is asked and knows no time; the writer asks the closure that it was given, so
//! neither reads a clock. A frame that the capture cut short arrives with length 0, as the contract of ports says.
//! Frames have no virtio header in such a file: the writer takes complete frames only. Writing may block on the disk, so
//! these ports are for tests and diagnosis, not for a loaded switch.

use std::io::{Read, Write};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, TsResolution};

use super::{Error, Offloads, Port, Sent};
use crate::frame::vnet::VnetHdr;
use crate::frame::{Buffer, FRAME_MAX, TxFrame};

fn capture(error: impl std::fmt::Display) -> Error {
    Error::Capture(error.to_string())
}

/// A port that receives the frames of a capture, and drops what it is given.
pub struct Reader<R: Read> {
    file: PcapReader<R>,
    /// The file went bad here; nothing after it makes sense.
    broken: Option<String>,
    ended: bool,
}

impl<R: Read + Send> Reader<R> {
    /// Begins to read a capture.
    ///
    /// # Errors
    /// [`Error::Capture`] when it is none, or none of Ethernet.
    pub fn new(file: R) -> Result<Self, Error> {
        let file = PcapReader::new(file).map_err(capture)?;
        let link = file.header().datalink;
        if link != DataLink::ETHERNET {
            return Err(Error::Capture(format!("link type is {link:?}, not Ethernet")));
        }
        Ok(Reader { file, broken: None, ended: false })
    }

    /// Every frame was received.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

impl<R: Read + Send> Port for Reader<R> {
    /// # Errors
    /// [`Error::Capture`] when the rest of the file can't be read; frames before it have been received.
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error> {
        let mut filled = 0;
        for buffer in buffers {
            if self.ended || self.broken.is_some() {
                break;
            }
            match self.file.next_raw_packet() {
                None => self.ended = true,
                Some(Err(error)) => self.broken = Some(error.to_string()),
                Some(Ok(packet)) => {
                    let whole = packet.incl_len >= packet.orig_len && packet.data.len() <= FRAME_MAX;
                    buffer.fill(if whole { &packet.data } else { &[] }, VnetHdr::PLAIN);
                    filled += 1;
                }
            }
        }
        match &self.broken {
            Some(what) if filled == 0 => Err(Error::Capture(what.clone())),
            _ => Ok(filled),
        }
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        Sent { accepted: frames.len(), ..Sent::default() }
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }
}

/// A port that writes the frames it is given into a capture, and receives nothing.
pub struct Writer<W: Write, C> {
    file: PcapWriter<W>,
    clock: C,
    /// A write failed, so the file may end in half a frame: nothing more is written.
    broken: bool,
    /// A frame in one piece.
    whole: Vec<u8>,
}

impl<W: Write + Send, C: FnMut() -> Duration + Send> Writer<W, C> {
    /// Begins a capture; `clock` gives each frame its time since 1970.
    ///
    /// # Errors
    /// [`Error::Capture`] when it can't be written to.
    pub fn new(file: W, clock: C) -> Result<Self, Error> {
        let header = PcapHeader {
            snaplen: FRAME_MAX as u32,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        let file = PcapWriter::with_header(file, header).map_err(capture)?;
        Ok(Writer { file, clock, broken: false, whole: Vec::with_capacity(FRAME_MAX) })
    }

    /// Ends the capture and gives back what it was written to.
    pub fn into_inner(self) -> W {
        self.file.into_writer()
    }
}

impl<W: Write + Send, C: FnMut() -> Duration + Send> Port for Writer<W, C> {
    fn rx(&mut self, _: &mut [Buffer]) -> Result<usize, Error> {
        Ok(0)
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let mut sent = Sent::default();
        for frame in frames {
            let len = frame.len();
            let fit = !self.broken && len <= FRAME_MAX && self.offloads().cover(&frame.vnet);
            if fit {
                self.whole.clear();
                self.whole.extend_from_slice(frame.head);
                self.whole.extend_from_slice(frame.rest);
                let packet = PcapPacket::new((self.clock)(), len as u32, &self.whole);
                self.broken = self.file.write_packet(&packet).is_err();
            }
            if fit && !self.broken {
                sent.accepted += 1;
            } else {
                sent.refuse();
            }
        }
        sent
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::vnet::NEEDS_CSUM;

    fn frame<'a>(head: &'a [u8], rest: &'a [u8]) -> TxFrame<'a> {
        TxFrame { head, rest, vnet: VnetHdr::PLAIN, copy: false }
    }

    fn read(octets: &[u8]) -> Reader<&[u8]> {
        Reader::new(octets).unwrap()
    }

    #[test]
    fn what_was_written_is_read_with_its_time() {
        let mut time = Duration::new(1_700_000_000, 5);
        let clock = || {
            time += Duration::from_nanos(1);
            time
        };
        let mut writer = Writer::new(Vec::new(), clock).unwrap();
        let long = vec![9; FRAME_MAX];
        let needs = TxFrame { vnet: VnetHdr { flags: NEEDS_CSUM, ..VnetHdr::PLAIN }, ..frame(b"", b"no") };
        let sent = writer.tx(&[frame(b"ab", b"cd"), needs, frame(b"", &long), frame(b"x", &long)]);
        assert_eq!(sent, Sent { accepted: 2, refused: 2, refused_set: 0b1010 });
        let octets = writer.into_inner();
        let mut reader = read(&octets);
        let mut buffers: Vec<Buffer> = (0..4).map(Buffer::new).collect();
        assert_eq!(reader.rx(&mut buffers[..1]).unwrap(), 1);
        assert_eq!(buffers[0].frame(), b"abcd");
        assert!(!reader.ended());
        assert_eq!(reader.rx(&mut buffers).unwrap(), 1);
        assert_eq!(buffers[0].frame(), long);
        assert!(reader.ended());
        assert_eq!(reader.rx(&mut buffers).unwrap(), 0);
        let mut again = PcapReader::new(&octets[..]).unwrap();
        let times: Vec<Duration> = (0..2).map(|_| again.next_packet().unwrap().unwrap().timestamp).collect();
        assert_eq!(times, [Duration::new(1_700_000_000, 6), Duration::new(1_700_000_000, 7)]);
    }

    /// A header and two records by hand: magic, version, zone, accuracy, snap length, link type.
    fn by_hand(magic: u32, link: u32, order: fn(u32) -> [u8; 4], half: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mut octets = [order(magic), [half(2), half(4)].concat().try_into().unwrap()].concat();
        octets.extend([0, 0, 4, link].map(order).concat());
        for (len, whole) in [(3, 3), (3, 70)] {
            octets.extend([5, 6, len, whole].map(order).concat());
            octets.extend(b"xyz");
        }
        octets
    }

    #[test]
    fn both_byte_orders_are_read_and_a_cut_frame_has_length_0() {
        for octets in [
            by_hand(0xa1b2_c3d4, 1, u32::to_be_bytes, u16::to_be_bytes),
            by_hand(0xa1b2_3c4d, 1, u32::to_le_bytes, u16::to_le_bytes),
        ] {
            let mut buffers: Vec<Buffer> = (0..4).map(Buffer::new).collect();
            assert_eq!(read(&octets).rx(&mut buffers).unwrap(), 2);
            assert_eq!((buffers[0].frame(), buffers[1].frame()), (&b"xyz"[..], &b""[..]));
        }
    }

    #[test]
    fn what_is_no_capture_of_ethernet_is_refused() {
        assert!(matches!(Reader::new(&b""[..]), Err(Error::Capture(_))));
        assert!(matches!(Reader::new(&[7; 100][..]), Err(Error::Capture(_))));
        let wifi = by_hand(0xa1b2_c3d4, 105, u32::to_be_bytes, u16::to_be_bytes);
        let error = Reader::new(&wifi[..]).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("capture file: link type is IEEE802_11, not Ethernet"));
    }

    #[test]
    fn a_file_that_ends_within_a_frame_gives_the_frames_before_and_then_the_error_for_ever() {
        let octets = by_hand(0xa1b2_c3d4, 1, u32::to_be_bytes, u16::to_be_bytes);
        let mut buffers: Vec<Buffer> = (0..4).map(Buffer::new).collect();
        let mut reader = read(&octets[..octets.len() - 1]);
        assert_eq!(reader.rx(&mut buffers).unwrap(), 1);
        for _ in 0..3 {
            assert!(matches!(reader.rx(&mut buffers), Err(Error::Capture(_))));
        }
        assert!(!reader.ended());
    }

    #[test]
    fn a_full_disk_refuses_frames_and_the_file_is_not_written_to_again() {
        /// Takes so many octets and no more.
        struct Disk(usize);
        impl Write for Disk {
            fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
                match self.0.checked_sub(octets.len()) {
                    Some(left) => self.0 = left,
                    None => return Err(std::io::ErrorKind::StorageFull.into()),
                }
                Ok(octets.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        assert!(matches!(Writer::new(Disk(10), Duration::default), Err(Error::Capture(_))));
        let mut writer = Writer::new(Disk(24 + 16 + 10 + 16 + 5), Duration::default).unwrap();
        let sent = writer.tx(&[frame(b"", &[0; 10]), frame(b"", &[0; 10]), frame(b"", b"")]);
        assert_eq!(sent, Sent { accepted: 1, refused: 2, refused_set: 0b110 });
    }
}
