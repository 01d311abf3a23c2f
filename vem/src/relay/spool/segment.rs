//! One file of the spool: a header, then records, each sealed.
//!
//! ```text
//! header   0 "FRSPOOL1"   8 stream (16)   24 first number (8)   32 salt (16)   48 check of the key (8)   56 CRC-32C of these (4)
//! record   0 "FS"   2 length of what is sealed, with its tag (4)   6 number (8)   14 CRC-32C of these (4)   18 sealed frame
//! ```
//!
//! A frame is sealed with ChaCha20-Poly1305 under a key of this file alone (HKDF over the spool's key and the file's salt);
//! the nonce is its number, and the record's first 14 octets are authenticated with it. A number is written once in a file, and after
//! a failed write the file is written no more, so no nonce comes twice under a key.
//!
//! What can't be read is passed over: the next record begins where a header's checksum is right.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::super::key::{self, Secret};
use super::super::wire::{DATA_OVERHEAD, DATAGRAM_MAX, StreamId};

const MAGIC: [u8; 8] = *b"FRSPOOL1";
pub(super) const HEADER: usize = 60;
const RECORD_MAGIC: [u8; 2] = *b"FS";
const RECORD: usize = 18;
const AUTHENTICATED: usize = 14;
const TAG: usize = 16;
const SEALED_MAX: usize = DATAGRAM_MAX + DATA_OVERHEAD + TAG;
/// Octets that are looked at in one go for the next record of a damaged file.
const SEARCH: usize = 64 << 10;

/// The key of a file.
pub(super) struct Key(LessSafeKey);

impl Key {
    fn new(secret: &Secret, stream: &StreamId, salt: &[u8; 16]) -> Option<Self> {
        let key = secret.derive(salt, &[b"flow-relay spool segment", stream]);
        Some(Key(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).ok()?)))
    }

    fn nonce(number: u64) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        if let Some(last) = nonce.last_chunk_mut() {
            *last = number.to_be_bytes();
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// First octets of a file.
pub(super) struct Header {
    pub(super) stream: StreamId,
    pub(super) first: u64,
    salt: [u8; 16],
    check: [u8; 8],
}

impl Header {
    fn check(secret: &Secret, salt: &[u8; 16]) -> [u8; 8] {
        let derived = secret.derive(salt, &[b"flow-relay spool check"]);
        derived.first_chunk().copied().unwrap_or_default()
    }

    fn encode(&self) -> Vec<u8> {
        let mut octets = [&MAGIC[..], &self.stream, &self.first.to_be_bytes(), &self.salt, &self.check].concat();
        octets.extend(crc32c::crc32c(&octets).to_be_bytes());
        octets
    }

    /// `None`: these are not a header's octets.
    pub(super) fn decode(octets: &[u8; HEADER]) -> Option<Self> {
        let (body, crc) = octets.split_last_chunk::<4>()?;
        let (magic, rest) = body.split_first_chunk::<8>()?;
        let (stream, rest) = rest.split_first_chunk::<16>()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let (salt, rest) = rest.split_first_chunk::<16>()?;
        let check = rest.first_chunk::<8>()?;
        (*magic == MAGIC && crc32c::crc32c(body) == u32::from_be_bytes(*crc)).then_some(())?;
        Some(Header { stream: *stream, first: u64::from_be_bytes(*first), salt: *salt, check: *check })
    }

    /// Whether `secret` is the key that the file was written with.
    pub(super) fn fits(&self, secret: &Secret) -> bool {
        self.check == Header::check(secret, &self.salt)
    }

    pub(super) fn key(&self, secret: &Secret) -> Option<Key> {
        Key::new(secret, &self.stream, &self.salt)
    }
}

/// A file that is written.
pub(super) struct Writer {
    file: File,
    key: Key,
    /// Octets that are written and whole.
    pub(super) octets: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Makes the file.
    pub(super) fn create(path: &Path, secret: &Secret, stream: StreamId, first: u64) -> io::Result<Self> {
        let salt: [u8; 16] = key::random().map_err(io::Error::other)?;
        let header = Header { stream, first, salt, check: Header::check(secret, &salt) };
        let key = header.key(secret).ok_or_else(|| io::Error::other("no key"))?;
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        if let Err(error) = file.write_all(&header.encode()) {
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Writer { file, key, octets: HEADER as u64, buffer: Vec::new() })
    }

    /// Appends frames in one write. After an error nothing of them is in the file, which is to be written no more.
    pub(super) fn append<'a>(&mut self, frames: impl Iterator<Item = (u64, &'a [u8])>) -> io::Result<()> {
        self.buffer.clear();
        for (number, frame) in frames {
            let mut head =
                [&RECORD_MAGIC[..], &((frame.len() + TAG) as u32).to_be_bytes(), &number.to_be_bytes()].concat();
            let mut sealed = frame.to_vec();
            (self.key.0)
                .seal_in_place_append_tag(Key::nonce(number), Aad::from(&head[..]), &mut sealed)
                .map_err(|_| io::Error::other("can't seal"))?;
            head.extend(crc32c::crc32c(&head).to_be_bytes());
            self.buffer.extend(head);
            self.buffer.extend(sealed);
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            let _ = self.file.set_len(self.octets);
            return Err(error);
        }
        self.octets += self.buffer.len() as u64;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// A record's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) number: u64,
    offset: u64,
    sealed: usize,
}

/// A file that is read.
pub(super) struct Reader {
    file: File,
    key: Key,
    offset: u64,
    /// Octets that were no record.
    pub(super) passed_over: u64,
}

impl Reader {
    /// `None`: the file has no header of ours.
    pub(super) fn open(path: &Path, secret: &Secret) -> io::Result<Option<(Self, Header)>> {
        let mut file = File::open(path)?;
        let mut octets = [0; HEADER];
        match file.read_exact(&mut octets) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let Some(header) = Header::decode(&octets) else { return Ok(None) };
        let Some(key) = header.key(secret) else { return Ok(None) };
        Ok(Some((Reader { file, key, offset: HEADER as u64, passed_over: 0 }, header)))
    }

    /// The next record whose header is right and that is there whole, up to `end`.
    pub(super) fn next_place(&mut self, end: u64) -> io::Result<Option<Place>> {
        while self.offset + (RECORD + TAG) as u64 <= end {
            if let Some(place) = self.place_at(self.offset, end)? {
                self.offset = place.offset + place.sealed as u64;
                return Ok(Some(place));
            }
            let found = self.search(end)?;
            self.passed_over += found - self.offset;
            self.offset = found;
        }
        self.passed_over += end.saturating_sub(self.offset);
        self.offset = end.max(self.offset);
        Ok(None)
    }

    fn place_at(&self, offset: u64, end: u64) -> io::Result<Option<Place>> {
        let mut head = [0; RECORD];
        self.file.read_exact_at(&mut head, offset)?;
        Ok(parse(&head)
            .map(|(number, sealed)| Place { number, offset: offset + RECORD as u64, sealed })
            .filter(|place| place.offset + place.sealed as u64 <= end))
    }

    /// Where after `self.offset` a record's header may begin, or `end`.
    fn search(&mut self, end: u64) -> io::Result<u64> {
        let mut at = self.offset + 1;
        let mut buffer = vec![0; SEARCH];
        while at + RECORD as u64 <= end {
            let want = (SEARCH as u64).min(end - at) as usize;
            let octets = buffer.get_mut(..want).unwrap_or_default();
            self.file.read_exact_at(octets, at)?;
            let found =
                octets.windows(RECORD).position(|head| head.first_chunk().is_some_and(|head| parse(head).is_some()));
            if let Some(found) = found {
                return Ok(at + found as u64);
            }
            at += (want - (RECORD - 1)) as u64;
        }
        Ok(end)
    }

    /// The frame at a place; `None` when it is damaged.
    pub(super) fn frame(&mut self, place: Place) -> io::Result<Option<Vec<u8>>> {
        let mut octets = vec![0; RECORD + place.sealed];
        self.file.seek(SeekFrom::Start(place.offset - RECORD as u64))?;
        self.file.read_exact(&mut octets)?;
        let mut sealed = octets.split_off(RECORD);
        let aad = Aad::from(octets.get(..AUTHENTICATED).unwrap_or_default());
        let Ok(frame) = self.key.0.open_in_place(Key::nonce(place.number), aad, &mut sealed) else { return Ok(None) };
        let length = frame.len();
        sealed.truncate(length);
        Ok(Some(sealed))
    }
}

/// Number and sealed length of a record's header.
fn parse(head: &[u8; RECORD]) -> Option<(u64, usize)> {
    let (body, crc) = head.split_last_chunk::<4>()?;
    let (magic, rest) = body.split_first_chunk::<2>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let number = rest.first_chunk::<8>()?;
    let length = u32::from_be_bytes(*length) as usize;
    let right = *magic == RECORD_MAGIC && crc32c::crc32c(body) == u32::from_be_bytes(*crc);
    (right && (TAG..=SEALED_MAX).contains(&length)).then_some((u64::from_be_bytes(*number), length))
}
