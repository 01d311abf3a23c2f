//! A guest's memory as its front end shares it: regions of files, mapped here.
//!
//! A region has three addresses: the guest's own (descriptors use these), the front end's (the set-up messages use these) and
//! ours. Translation never trusts a length: [`Memory::piece`] gives the part of a range that lies in one region, so a range that
//! runs over the end of a region continues in whatever region follows, or nowhere (CVE-2018-1059). Nothing here can wrap: a region
//! whose end is beyond 2^64 is refused when it is mapped.
//!
//! The file is closed once it is mapped. Cutting it short afterwards breaks the region; see [`super::sigbus`].

use std::os::fd::{AsFd, OwnedFd};
use std::ptr;

use rustix::fs::{FileType, fstat, fstatfs};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::sigbus::{Watch, broken_total};

/// Regions that a guest may have, in one message or by many.
pub const REGIONS_MAX: usize = 32;
/// Octets that all regions of a guest may have together.
const OCTETS_MAX: u64 = 4 << 40;
/// `f_type` of files on huge pages.
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// What the front end says of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Where the guest sees it.
    pub guest: u64,
    /// Octets.
    pub size: u64,
    /// Where the front end sees it.
    pub user: u64,
    /// Where in the file it begins.
    pub offset: u64,
}

/// Why a region can't be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Its size is 0, or an end of it is beyond 2^64.
    #[error("a memory region has no size, or wraps")]
    Bounds,
    /// It shares guest or front end addresses with another.
    #[error("memory regions overlap")]
    Overlap,
    /// Too many, or too large together.
    #[error("too much guest memory, or too many regions")]
    Limit,
    /// The descriptor is no file, or the file is shorter than the region.
    #[error("the file of a memory region is none, or is too short")]
    File,
    /// There is no such region.
    #[error("no such memory region")]
    Unknown,
    /// The system would not map it.
    #[error("can't map guest memory: {0}")]
    Map(Errno),
}

/// A mapped region.
struct Region {
    place: Place,
    /// Our address of the region's first octet.
    host: *mut u8,
    /// Of the mapping, which begins at a page.
    map: *mut u8,
    map_len: usize,
    watch: Option<Watch>,
}

impl Region {
    fn new(place: Place, file: OwnedFd) -> Result<Region, Error> {
        let stat = fstat(&file).map_err(Error::Map)?;
        let end = place.offset.checked_add(place.size).ok_or(Error::Bounds)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || u64::try_from(stat.st_size).map_or(true, |len| len < end)
        {
            return Err(Error::File);
        }
        // A mapping of huge pages begins and ends with one.
        let system = fstatfs(file.as_fd()).map_err(Error::Map)?;
        let huge = system.f_type as u64 == HUGETLBFS_MAGIC;
        let page = if huge { system.f_bsize as u64 } else { page_size() };
        let begin = place.offset - place.offset % page.max(1);
        let map_len = (end - begin).checked_next_multiple_of(page.max(1)).ok_or(Error::Bounds)?;
        let map_len = usize::try_from(map_len).map_err(|_| Error::Bounds)?;
        let skip = usize::try_from(place.offset - begin).map_err(|_| Error::Bounds)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the system chooses.
        let map =
            unsafe { mmap(ptr::null_mut(), map_len, protection, MapFlags::SHARED | MapFlags::NORESERVE, &file, begin) };
        let map = map.map_err(Error::Map)?.cast::<u8>();
        let mut region = Region { place, host: map.wrapping_add(skip), map, map_len, watch: None };
        region.watch = Some(Watch::new(map as usize, map_len).map_err(Error::Map)?);
        Ok(region)
    }
}

/// Octets of an ordinary page.
fn page_size() -> u64 {
    // SAFETY: asks for a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

impl Drop for Region {
    fn drop(&mut self) {
        // Not found any more, then not there any more.
        self.watch = None;
        // SAFETY: the mapping is ours, and whoever got a pointer into it held the `Memory`.
        let _ = unsafe { munmap(self.map.cast(), self.map_len) };
    }
}

/// All memory of a guest; see the module.
#[derive(Default)]
pub struct Memory {
    regions: Vec<Region>,
}

// SAFETY: the pointers are to shared mappings that no thread owns; whoever uses them expects others to change what is there.
unsafe impl Send for Memory {}
// SAFETY: as above; and `&Memory` changes nothing.
unsafe impl Sync for Memory {}

/// A part of guest memory in our addresses, good while the [`Memory`] lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) at: *mut u8,
    pub(super) len: usize,
}

/// The region that was found last. It goes with the memory that it was first used with.
#[derive(Clone, Copy)]
pub(super) struct Hint {
    guest: u64,
    size: u64,
    host: *mut u8,
}

impl Default for Hint {
    fn default() -> Self {
        Hint { guest: 0, size: 0, host: ptr::null_mut() }
    }
}

impl Hint {
    /// `len` octets, or as many as the region has, from `offset` on, which is less than its size.
    #[inline(always)]
    fn piece(&self, offset: u64, len: usize) -> Piece {
        let left = self.size - offset;
        // The region is mapped, so its size is one of our address space, and so is every offset in it.
        Piece { at: self.host.wrapping_add(offset as usize), len: len.min(left as usize) }
    }
}

impl Memory {
    /// Memory of these regions; the descriptors are closed in any case.
    ///
    /// # Errors
    /// [`Error`], when one of them can't be used.
    pub fn new(places: impl IntoIterator<Item = (Place, OwnedFd)>) -> Result<Memory, Error> {
        let mut memory = Memory::default();
        for (place, file) in places {
            memory.add(place, file)?;
        }
        Ok(memory)
    }

    /// One region more.
    ///
    /// # Errors
    /// [`Error`], when it can't be used.
    pub fn add(&mut self, place: Place, file: OwnedFd) -> Result<(), Error> {
        let bounded = |from: u64| from.checked_add(place.size).is_some();
        if place.size == 0 || !bounded(place.guest) || !bounded(place.user) {
            return Err(Error::Bounds);
        }
        let meets = |a: u64, b: u64, size: u64| a < b.saturating_add(size) && b < a.saturating_add(place.size);
        let overlaps = |region: &Region| {
            let other = region.place;
            meets(place.guest, other.guest, other.size) || meets(place.user, other.user, other.size)
        };
        if self.regions.iter().any(overlaps) {
            return Err(Error::Overlap);
        }
        let total = self.regions.iter().fold(place.size, |sum, region| sum.saturating_add(region.place.size));
        if self.regions.len() >= REGIONS_MAX || total > OCTETS_MAX {
            return Err(Error::Limit);
        }
        self.regions.push(Region::new(place, file)?);
        Ok(())
    }

    /// One region less.
    ///
    /// # Errors
    /// [`Error::Unknown`] when there is none at these addresses.
    pub fn remove(&mut self, guest: u64, user: u64, size: u64) -> Result<(), Error> {
        let is_it = |region: &Region| (region.place.guest, region.place.user, region.place.size) == (guest, user, size);
        let at = self.regions.iter().position(is_it).ok_or(Error::Unknown)?;
        self.regions.remove(at);
        Ok(())
    }

    /// The part of `len` octets from guest address `address` on that lies in one region: at least one octet, unless `len`
    /// is 0. `None` when the first octet is in no region.
    #[inline(always)]
    pub(super) fn piece(&self, address: u64, len: usize, hint: &mut Hint) -> Option<Piece> {
        let offset = address.wrapping_sub(hint.guest);
        if offset < hint.size {
            return Some(hint.piece(offset, len));
        }
        self.search(address, len, hint)
    }

    /// Where `len` octets from guest address `address` on are, if they lie in one region; else null.
    #[inline(always)]
    pub(super) fn whole(&self, address: u64, len: u32, hint: &mut Hint) -> *mut u8 {
        let offset = address.wrapping_sub(hint.guest);
        if offset < hint.size && u64::from(len) <= hint.size - offset {
            hint.host.wrapping_add(offset as usize)
        } else {
            self.search_whole(address, len, hint)
        }
    }

    #[cold]
    fn search_whole(&self, address: u64, len: u32, hint: &mut Hint) -> *mut u8 {
        match self.search(address, len as usize, hint) {
            Some(piece) if piece.len == len as usize => piece.at,
            _ => ptr::null_mut(),
        }
    }

    #[cold]
    fn search(&self, address: u64, len: usize, hint: &mut Hint) -> Option<Piece> {
        let holds = |region: &Region| address.wrapping_sub(region.place.guest) < region.place.size;
        let region = self.regions.iter().find(|region| holds(region))?;
        *hint = Hint { guest: region.place.guest, size: region.place.size, host: region.host };
        Some(hint.piece(address.wrapping_sub(region.place.guest), len))
    }

    /// All of `len` octets from the front end's address `user` on, if they lie in one region, at a multiple of `align`.
    pub(super) fn ring(&self, user: u64, len: usize, align: usize) -> Option<*mut u8> {
        let holds = |region: &&Region| user.wrapping_sub(region.place.user) < region.place.size;
        let region = self.regions.iter().find(holds)?;
        let piece = region.piece(user.wrapping_sub(region.place.user), len);
        (piece.len == len && (piece.at as usize).is_multiple_of(align)).then_some(piece.at)
    }

    /// The region's file was cut short under us: what we read is not what the guest wrote.
    pub(super) fn is_broken(&self) -> bool {
        self.regions.iter().any(|region| region.watch.as_ref().is_some_and(Watch::is_broken))
    }

    /// Regions.
    pub fn len(&self) -> usize {
        self.regions.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }
}

impl Region {
    #[inline(always)]
    fn piece(&self, offset: u64, len: usize) -> Piece {
        let left = self.place.size - offset;
        // The region is mapped, so its size is one of our address space, and so is every offset in it.
        Piece { at: self.host.wrapping_add(offset as usize), len: len.min(left as usize) }
    }
}

/// Looks whether memory has broken since it last looked; costs one load when none of any guest's has.
pub(super) struct Care {
    seen: u64,
}

impl Care {
    pub(super) fn new() -> Self {
        Care { seen: u64::MAX }
    }

    /// `memory` is whole, as far as we have touched it.
    #[inline(always)]
    pub(super) fn is_whole(&mut self, memory: &Memory) -> bool {
        let total = broken_total();
        if total == self.seen {
            return true;
        }
        if memory.is_broken() {
            return false;
        }
        self.seen = total;
        true
    }
}
