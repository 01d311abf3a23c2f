//! SIGBUS in guest memory ends the guest's port, not the process.
//!
//! A guest's memory is a file that its front end holds too. If the front end cuts the file short, our next access to a page
//! that is no more raises SIGBUS. The handler here looks the address up in a fixed table of all guest regions, puts
//! anonymous pages of zeroes in place of the whole region, marks it broken and returns: the access repeats and finds zeroes. The
//! port looks at [`Watch::is_broken`] once per batch and stops. An address in no region belongs to somebody else: the handler
//! that was there before gets the signal.
//!
//! The handler runs in whatever thread touched the page. It takes no lock, allocates nothing, and calls only `mmap`. The
//! table is an array of atomics; an entry is written by whoever claimed it, before its start becomes visible.

use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rustix::io::Errno;

/// Regions of guest memory that one process can hold.
pub(super) const WATCHED_MAX: usize = 8192;

/// One region. `start` is 0 while it is not to be found.
struct Entry {
    taken: AtomicBool,
    start: AtomicUsize,
    len: AtomicUsize,
    broken: AtomicBool,
}

static TABLE: [Entry; WATCHED_MAX] = [const {
    Entry {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        broken: AtomicBool::new(false),
    }
}; WATCHED_MAX];

/// How many regions have broken since the start of the process.
static BROKEN: AtomicU64 = AtomicU64::new(0);

/// How many regions have broken so far: when this has not moved, none of a port's has.
#[inline(always)]
pub(super) fn broken_total() -> u64 {
    BROKEN.load(Ordering::Relaxed)
}

/// A mapped region that may be touched; it is forgotten when this is dropped, which is to be before it is unmapped.
pub(super) struct Watch(&'static Entry);

impl Watch {
    /// Watches `len` octets from `start` on, which are a whole mapping.
    ///
    /// # Errors
    /// When the table is full, or the handler could not be installed.
    pub(super) fn new(start: usize, len: usize) -> Result<Watch, Errno> {
        install()?;
        let free = |entry: &&Entry| {
            !entry.taken.load(Ordering::Relaxed)
                && entry.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let entry = TABLE.iter().find(free).ok_or(Errno::NOSPC)?;
        entry.broken.store(false, Ordering::Relaxed);
        entry.len.store(len, Ordering::Relaxed);
        entry.start.store(start, Ordering::Release);
        Ok(Watch(entry))
    }

    /// Part of the region's file went away; the region reads as zeroes now.
    pub(super) fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
        self.0.taken.store(false, Ordering::Release);
    }
}

/// Who had the signal before us.
static PREVIOUS_HANDLER: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static PREVIOUS_TAKES_INFO: AtomicBool = AtomicBool::new(false);

/// Installs the handler, once in the life of the process.
fn install() -> Result<(), Errno> {
    static ONCE: Once = Once::new();
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    ONCE.call_once(|| {
        // SAFETY: plain old data, for which zeroes are a value; both structs outlive the calls. The previous handler is
        // stored before ours can run.
        unsafe {
            let mut previous: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, ptr::null(), &mut previous) != 0 {
                return;
            }
            PREVIOUS_TAKES_INFO.store(previous.sa_flags & libc::SA_SIGINFO != 0, Ordering::Relaxed);
            PREVIOUS_HANDLER.store(previous.sa_sigaction, Ordering::Release);
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = on_sigbus as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            INSTALLED.store(libc::sigaction(libc::SIGBUS, &ours, ptr::null_mut()) == 0, Ordering::Release);
        }
    });
    if INSTALLED.load(Ordering::Acquire) { Ok(()) } else { Err(Errno::INVAL) }
}

/// The handler; see the module.
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system hands a valid `info` to a handler with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    for entry in &TABLE {
        let start = entry.start.load(Ordering::Acquire);
        let len = entry.len.load(Ordering::Relaxed);
        if start == 0 || address.wrapping_sub(start) >= len {
            continue;
        }
        // SAFETY: the address of this thread's errno; restored below, for `mmap` may change it under the interrupted code.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        let saved = unsafe { *errno };
        // SAFETY: the range is a mapping of ours that a `Watch` keeps; what refers to it are raw pointers to guest memory,
        // for which any contents will do.
        let mapped = unsafe {
            let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            libc::mmap(start as *mut libc::c_void, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        // SAFETY: as above.
        unsafe { *errno = saved };
        if mapped != libc::MAP_FAILED {
            entry.broken.store(true, Ordering::Release);
            BROKEN.fetch_add(1, Ordering::Release);
            return;
        }
    }
    pass_on(signal, info, context);
}

/// Not ours: what would have happened without us happens.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    type Plain = extern "C" fn(libc::c_int);
    type WithInfo = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    let previous = PREVIOUS_HANDLER.load(Ordering::Acquire);
    match previous {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The access repeats when we return, and then ends the process as it would have.
            // SAFETY: a valid struct; the default action needs no handler.
            unsafe {
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, ptr::null_mut());
            }
        }
        // SAFETY: the system gave us this address as a handler of this kind.
        _ if PREVIOUS_TAKES_INFO.load(Ordering::Relaxed) => unsafe {
            std::mem::transmute::<usize, WithInfo>(previous)(signal, info, context);
        },
        // SAFETY: as above.
        _ => unsafe { std::mem::transmute::<usize, Plain>(previous)(signal) },
    }
}
