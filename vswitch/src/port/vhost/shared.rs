//! What the negotiation and the workers share: a slot for each ring, and what wakes a worker.
//!
//! The negotiation puts a ring that is set up into its slot and takes it out before anything about it changes; workers try
//! the slot's lock once per batch. A ring that is of no use any more stays where it is, not ready, until it is set up anew.
//!
//! Waking. Every handle of a port has an epoll descriptor for life, which is its readiness. In it are the kicks of its queues and a
//! bell that the negotiation rings when there is a new ring to look at. All are edge-triggered, so that none is ever read:
//! a kick is the front end's file, and reading it could block us.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

use super::call::Call;
use super::lock::TryLock;
use super::ring::{Fault, Ring};
use super::state::VhostState;

/// In epoll: the bell. Kicks have the number of their pair.
const BELL: u64 = u64::MAX;

/// A call that lasts longer is none.
pub(super) const CALL_MAX: Duration = Duration::from_millis(200);

/// A ring that is set up.
pub(super) struct Running {
    pub(super) ring: Ring,
    /// Where the guest wants to be called.
    pub(super) call: Option<Arc<Call>>,
    /// What the guest sends counts, and it may be sent something.
    pub(super) enabled: bool,
    /// The guest kicks.
    pub(super) kicks: bool,
}

impl Running {
    /// Calls the guest if it wants to be.
    #[inline(always)]
    pub(super) fn call(&mut self, state: &VhostState) {
        if self.ring.wants_call()
            && let Some(call) = &self.call
        {
            call.ring(&state.calls);
        }
    }
}

type Watched = (Option<Arc<Call>>, Option<(u32, Instant)>);

/// A place for a ring.
pub(super) struct Slot {
    /// There is a ring of use. A hint that spares the lock.
    ready: AtomicBool,
    ring: TryLock<Option<Running>>,
    /// The ring's call, for the negotiation, which can't ask the ring while a worker has it; and the write that lasted when it
    /// last looked, with the time at which it first saw that one.
    call: Mutex<Watched>,
}

impl Slot {
    /// There may be a ring to use.
    #[inline(always)]
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Uses the ring, unless there is none or somebody else does. Looks `tries` times.
    #[inline(always)]
    pub(super) fn try_with<R>(&self, tries: u32, f: impl FnOnce(&mut Running) -> R) -> Option<R> {
        if !self.is_ready() {
            return None;
        }
        self.ring.spin_with(tries, |running| running.as_mut().map(f)).flatten()
    }

    /// Uses the ring, as soon as no worker does.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Running) -> R) -> Option<R> {
        self.ring.with(self.waiting(), |running| running.as_mut().map(f))
    }

    /// Puts a ring in.
    pub(super) fn put(&self, running: Running) {
        *self.watched() = (running.call.clone(), None);
        self.ring.with(self.waiting(), |place| *place = Some(running));
        self.ready.store(true, Ordering::Release);
    }

    /// Takes the ring out, as soon as no worker uses it.
    pub(super) fn take(&self) -> Option<Running> {
        self.ready.store(false, Ordering::Release);
        self.ring.with(self.waiting(), Option::take)
    }

    /// Changes where the guest wants to be called.
    pub(super) fn set_call(&self, call: Option<Arc<Call>>) {
        let new = call.clone();
        // The old one is watched until no worker can be in it.
        self.with(|running| running.call = call);
        *self.watched() = (new, None);
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the negotiation does while a worker has the ring: it lets it, for a while; then it frees it from a call that lasts.
    fn waiting(&self) -> impl FnMut() {
        let begun = Instant::now();
        move || {
            std::thread::yield_now();
            if begun.elapsed() > CALL_MAX
                && let Some(call) = &self.watched().0
            {
                call.end();
            }
        }
    }

    /// A worker has been in one call for [`CALL_MAX`], as far as this was asked meanwhile. It is freed.
    pub(super) fn is_blocked(&self) -> bool {
        let mut watched = self.watched();
        let (call, before) = &mut *watched;
        let Some((call, write)) = call.as_ref().and_then(|call| Some((call, call.lasting()?))) else {
            *before = None;
            return false;
        };
        let since = match *before {
            Some((seen, since)) if seen == write => since,
            _ => before.insert((write, Instant::now())).1,
        };
        // A worker that lost its core in a call is in it for longer than two messages are apart.
        let blocked = since.elapsed() >= CALL_MAX;
        if blocked {
            call.end();
        }
        blocked
    }
}

/// What wakes the worker of one handle.
struct Wake {
    epoll: OwnedFd,
    bell: OwnedFd,
}

/// What wakes whom.
struct Wakes {
    handles: Vec<Wake>,
    /// By pair: the kick of the queue in which the guest sends.
    kicks: Vec<Option<OwnedFd>>,
}

impl Wakes {
    fn owner(&self, pair: usize) -> Option<&Wake> {
        self.handles.get(pair.checked_rem(self.handles.len())?)
    }

    fn add(&self, pair: usize) -> Result<(), Errno> {
        if let (Some(wake), Some(Some(kick))) = (self.owner(pair), self.kicks.get(pair)) {
            let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&wake.epoll, kick, epoll::EventData::new_u64(pair as u64), events)?;
        }
        Ok(())
    }

    fn delete(&self, pair: usize) {
        if let (Some(wake), Some(Some(kick))) = (self.owner(pair), self.kicks.get(pair)) {
            // It is there: `add` put it there.
            let _ = epoll::delete(&wake.epoll, kick);
        }
    }
}

/// See the module.
pub(super) struct Shared {
    slots: Vec<Slot>,
    pub(super) state: Arc<VhostState>,
    wakes: Mutex<Wakes>,
}

impl Shared {
    /// For `pairs` queue pairs, without a handle.
    pub(super) fn new(pairs: u16) -> Shared {
        let slot = |_| Slot { ready: AtomicBool::new(false), ring: TryLock::new(None), call: Mutex::new((None, None)) };
        Shared {
            slots: (0..2 * pairs).map(slot).collect(),
            state: Arc::new(VhostState::default()),
            wakes: Mutex::new(Wakes { handles: Vec::new(), kicks: (0..pairs).map(|_| None).collect() }),
        }
    }

    /// Queue pairs.
    #[inline(always)]
    pub(super) fn pairs(&self) -> usize {
        self.slots.len() / 2
    }

    /// The slot of a queue; the guest receives in the even ones.
    #[inline(always)]
    pub(super) fn slot(&self, queue: usize) -> Option<&Slot> {
        self.slots.get(queue)
    }

    /// A worker found that a ring is of no use any more.
    #[cold]
    pub(super) fn fail(&self, queue: usize, fault: Fault) {
        if let Some(slot) = self.slots.get(queue) {
            slot.ready.store(false, Ordering::Release);
        }
        self.state.set_fault(queue, fault);
    }

    /// A worker has been in a call for a while; it is freed.
    pub(super) fn is_blocked(&self) -> bool {
        // All of them: asking frees.
        self.slots.iter().filter(|slot| slot.is_blocked()).count() > 0
    }

    fn wakes(&self) -> MutexGuard<'_, Wakes> {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle more. All kicks move to whom they belong now.
    pub(super) fn add_handle(&self) -> Result<OwnedFd, Errno> {
        let own = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&own, &bell, epoll::EventData::new_u64(BELL), events)?;
        let epoll = rustix::io::fcntl_dupfd_cloexec(&own, 3)?;
        let mut wakes = self.wakes();
        for pair in 0..self.pairs() {
            wakes.delete(pair);
        }
        wakes.handles.push(Wake { epoll, bell });
        for pair in 0..self.pairs() {
            wakes.add(pair)?;
        }
        Ok(own)
    }

    /// From now on `kick` says that the guest has sent in `pair`.
    pub(super) fn watch(&self, pair: usize, kick: Option<OwnedFd>) -> Result<(), Errno> {
        let mut wakes = self.wakes();
        wakes.delete(pair);
        if let Some(place) = wakes.kicks.get_mut(pair) {
            *place = kick;
        }
        wakes.add(pair)
    }

    /// Wakes the worker that `pair` belongs to.
    pub(super) fn ring_bell(&self, pair: usize) {
        if let Some(wake) = self.wakes().owner(pair) {
            // The counter would be full after 2^64 rings.
            let _ = rustix::io::write(&wake.bell, &1u64.to_ne_bytes());
        }
    }

    /// Takes note of what happened to `epoll`, so that it is readable only when something happens again.
    pub(super) fn drain(&self, epoll: &OwnedFd) {
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; 16];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // There are at most nine descriptors in it, so one look finds all.
        let Ok((events, _)) = epoll::wait(epoll, &mut room, Some(&now)) else { return };
        let kicks = events.iter().filter(|event| event.data.u64() != BELL).count();
        if kicks > 0 {
            self.state.kicks.fetch_add(kicks as u64, Ordering::Relaxed);
        }
    }
}
