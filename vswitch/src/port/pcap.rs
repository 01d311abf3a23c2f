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
