//! The negotiation: what the front end asks for, and when a ring may run.
//!
//! A ring runs when there is memory, it has a size and a place, and its kick has come (vhost-user, "Ring states"). Whatever a
//! message changes about a running ring, the ring is taken from the worker before and given back after. Every number is
//! checked in the width in which it came (CVE-2020-10723). What is refused ends the connection; the guest may come again.
//!
//! Not offered, hence refused: packed rings, dirty page logs (so a guest can't be migrated away while it runs), in-flight
//! regions (nothing is ever in flight between two batches), configuration space, shared objects, device state, STATUS.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::fstat;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight, VhostUserLog,
    VhostUserMemoryRegion, VhostUserShMemConfig, VhostUserSharedMsg, VhostUserSingleMemoryRegion,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, Result, VhostUserBackendReqHandlerMut, VhostUserProtocolFeatures};

use super::call::{Call, unblock};
use super::features::{self, PROTOCOL_FEATURES};
use super::memory::{self, Memory, Place, REGIONS_MAX};
use super::ring::{Layout, Ring, SIZE_MAX};
use super::shared::{Running, Shared};

/// Regions that one message may bring.
const TABLE_MAX: usize = 8;

/// What is known of a ring so far.
#[derive(Default)]
struct Setup {
    size: Option<u16>,
    /// Descriptor table, available ring, used ring.
    places: Option<(u64, u64, u64)>,
    base: u16,
    kicked: bool,
    kicks: bool,
    call: Option<Arc<Call>>,
    enabled: bool,
}

/// One connection's device.
pub(super) struct Device {
    shared: Arc<Shared>,
    features: u64,
    memory: Option<Arc<Memory>>,
    rings: Vec<Setup>,
}

/// A value that is none.
fn refuse<T>(what: &'static str) -> Result<T> {
    Err(Error::InvalidOperation(what))
}

/// A request that was never offered.
fn unoffered<T>() -> Result<T> {
    refuse("a request that was not offered")
}

impl Device {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let rings = (0..2 * shared.pairs()).map(|_| Setup::default()).collect();
        Device { shared, features: 0, memory: None, rings }
    }

    /// The front end has said that it speaks of features of the protocol.
    pub(super) fn has_protocol_features(&self) -> bool {
        self.features & PROTOCOL_FEATURES != 0
    }

    /// Forgets all: the connection ended, or the guest wants to begin anew.
    pub(super) fn clear(&mut self) {
        for queue in 0..self.rings.len() {
            self.stop(queue);
        }
        self.rings.iter_mut().for_each(|ring| *ring = Setup::default());
        self.features = 0;
        self.memory = None;
        self.shared.state.set_features(0);
    }

    /// A queue's number and what is known of it.
    fn queue(&mut self, index: u32) -> Result<(usize, &mut Setup)> {
        let queue = usize::try_from(index).map_err(|_| Error::InvalidParam)?;
        match self.rings.get_mut(queue) {
            Some(setup) => Ok((queue, setup)),
            None => refuse("a queue that does not exist"),
        }
    }

    /// Takes a ring back from the workers.
    fn stop(&mut self, queue: usize) {
        if let (Some(slot), Some(setup)) = (self.shared.slot(queue), self.rings.get_mut(queue))
            && let Some(running) = slot.take()
        {
            setup.base = running.ring.base();
            self.shared.state.set_running(queue, false);
        }
    }

    /// Gives a ring to the workers, if all is known of it.
    fn start(&mut self, queue: usize) -> Result<()> {
        let (Some(slot), Some(setup), Some(memory)) =
            (self.shared.slot(queue), self.rings.get_mut(queue), &self.memory)
        else {
            return Ok(());
        };
        let (Some(size), Some((descriptors, available, used)), true) = (setup.size, setup.places, setup.kicked) else {
            return Ok(());
        };
        let layout = Layout { size, descriptors, available, used };
        let ring = match Ring::new(Arc::clone(memory), &layout, setup.base, self.features) {
            Ok(ring) => ring,
            Err(fault) => {
                self.shared.state.set_fault(queue, fault);
                return refuse("a ring that is not in guest memory");
            }
        };
        // Without the protocol's features there is no message to enable a ring.
        let enabled = setup.enabled || self.features & PROTOCOL_FEATURES == 0;
        slot.put(Running { ring, call: setup.call.clone(), enabled, kicks: setup.kicks });
        self.shared.state.set_running(queue, true);
        self.shared.ring_bell(queue / 2);
        Ok(())
    }

    /// Changes what all rings depend on while none runs.
    fn without_rings(&mut self, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        for queue in 0..self.rings.len() {
            self.stop(queue);
        }
        change(self)?;
        for queue in 0..self.rings.len() {
            // A ring that is nowhere in the new memory stays stopped; its fault is told.
            let _ = self.start(queue);
        }
        Ok(())
    }

    /// Changes something about one ring while it does not run.
    fn change(&mut self, index: u32, change: impl FnOnce(&mut Setup) -> Result<()>) -> Result<()> {
        let (queue, _) = self.queue(index)?;
        self.stop(queue);
        let (_, setup) = self.queue(index)?;
        change(setup)?;
        self.start(queue)
    }

    fn memory_error(&self, error: memory::Error) -> Error {
        self.shared.state.set_error(error.to_string());
        Error::InvalidParam
    }
}

/// What the front end says of a region, in our words.
fn place(region: &VhostUserMemoryRegion) -> Place {
    Place {
        guest: region.guest_phys_addr,
        size: region.memory_size,
        user: region.user_addr,
        offset: region.mmap_offset,
    }
}

/// A file that is an eventfd, as far as can be told, and does not block: it is neither a file, a pipe, a socket nor a device.
fn event(file: File) -> Result<OwnedFd> {
    let fd = OwnedFd::from(file);
    let kind = fstat(&fd).map(|stat| stat.st_mode & libc::S_IFMT).unwrap_or(libc::S_IFMT);
    match (kind, unblock(&fd)) {
        (0, Ok(())) => Ok(fd),
        _ => refuse("a descriptor that is no eventfd"),
    }
}

impl VhostUserBackendReqHandlerMut for Device {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset_device()
    }

    fn reset_device(&mut self) -> Result<()> {
        self.shared.state.resets.fetch_add(1, Ordering::Relaxed);
        self.clear();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(features::offered(self.shared.pairs() as u16))
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.get_features()? != 0 {
            return refuse("features that were not offered");
        }
        self.without_rings(|device| {
            device.features = features;
            device.shared.state.set_features(features);
            Ok(())
        })
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<vhost::VhostUserMemoryRegionBase>>> {
        if regions.is_empty() || regions.len() > TABLE_MAX || regions.len() != files.len() {
            return refuse("a memory table of no or more than 8 regions");
        }
        self.without_rings(|device| {
            // The old memory goes first: both together may be more than there is.
            device.memory = None;
            let places = regions.iter().map(place).zip(files.into_iter().map(OwnedFd::from));
            let memory = Memory::new(places).map_err(|error| device.memory_error(error))?;
            device.memory = Some(Arc::new(memory));
            Ok(())
        })?;
        Ok(None)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(REGIONS_MAX as u64)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _: Option<bool>,
    ) -> Result<Option<vhost::VhostUserMemoryRegionBase>> {
        self.without_rings(|device| {
            // No ring runs, so nobody else has it.
            let shared = device.memory.take().unwrap_or_default();
            let mut memory = Arc::into_inner(shared).ok_or(Error::BackendInternalError)?;
            // QEMU brings and takes each region once for every queue pair, so it may be there already.
            let _ = memory.remove(region.guest_phys_addr, region.user_addr, region.memory_size);
            let added = memory.add(place(region), file.into());
            device.memory = Some(Arc::new(memory));
            added.map_err(|error| device.memory_error(error))
        })?;
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        self.without_rings(|device| {
            let shared = device.memory.take().unwrap_or_default();
            let mut memory = Arc::into_inner(shared).ok_or(Error::BackendInternalError)?;
            let removed = memory.remove(region.guest_phys_addr, region.user_addr, region.memory_size);
            device.memory = Some(Arc::new(memory));
            match removed {
                // Taken with another queue pair.
                Err(memory::Error::Unknown) if device.rings.len() > 2 => Ok(()),
                removed => removed.map_err(|error| device.memory_error(error)),
            }
        })
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.change(index, |setup| {
            if !num.is_power_of_two() || num > SIZE_MAX {
                return refuse("a ring whose size is no power of two up to 32768");
            }
            setup.size = u16::try_from(num).ok();
            Ok(())
        })
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _: u64,
    ) -> Result<()> {
        if !flags.is_empty() {
            return refuse("a ring with a log, which was not offered");
        }
        self.change(index, |setup| {
            setup.places = Some((descriptor, available, used));
            Ok(())
        })
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.change(index, |setup| {
            let Ok(base) = u16::try_from(base) else { return refuse("a base beyond 65535") };
            setup.base = base;
            Ok(())
        })
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let (queue, _) = self.queue(index)?;
        self.stop(queue);
        let (_, setup) = self.queue(index)?;
        setup.kicked = false;
        let base = setup.base;
        if queue % 2 == 1 {
            let _ = self.shared.watch(queue / 2, None);
        }
        Ok(VhostUserVringState::new(index, base.into()))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let (queue, _) = self.queue(index.into())?;
        let kick = file.map(event).transpose()?;
        let kicks = kick.is_some();
        if queue % 2 == 1 && self.shared.watch(queue / 2, kick).is_err() {
            return refuse("a kick that can't be watched");
        }
        self.change(index.into(), |setup| {
            (setup.kicked, setup.kicks) = (true, kicks);
            Ok(())
        })
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let call = file.map(event).transpose()?.map(|event| Arc::new(Call::new(event)));
        let (queue, setup) = self.queue(index.into())?;
        setup.call.clone_from(&call);
        if let Some(slot) = self.shared.slot(queue) {
            slot.set_call(call);
        }
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.queue(index.into())?;
        // What is wrong with a ring is told to our side only.
        drop(file);
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(features::offered_protocol())
    }

    fn set_protocol_features(&mut self, wanted: u64) -> Result<()> {
        let offered = features::offered_protocol() | VhostUserProtocolFeatures::REPLY_ACK;
        if wanted & !offered.bits() != 0 {
            return refuse("protocol features that were not offered");
        }
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.shared.pairs() as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let (queue, setup) = self.queue(index)?;
        setup.enabled = enable;
        if let Some(slot) = self.shared.slot(queue) {
            slot.with(|running| running.enabled = enable);
        }
        self.shared.ring_bell(queue / 2);
        Ok(())
    }

    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        unoffered()
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        unoffered()
    }

    fn set_gpu_socket(&mut self, _: vhost::vhost_user::GpuBackend) -> Result<()> {
        unoffered()
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        unoffered()
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        unoffered()
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        unoffered()
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        unoffered()
    }

    fn check_device_state(&mut self) -> Result<()> {
        unoffered()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unoffered()
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        unoffered()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_pair_may_bring_and_take_the_same_region() {
        let region = VhostUserSingleMemoryRegion::new(0x1000, 0x1000, 0x7000_0000, 0);
        let file = || {
            let file = rustix::fs::memfd_create("region", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            rustix::fs::ftruncate(&file, 0x1000).unwrap();
            File::from(file)
        };
        for (pairs, again) in [(1, false), (2, true)] {
            let mut device = Device::new(Arc::new(Shared::new(pairs)));
            for _ in 0..2 {
                device.add_mem_region(&region, file(), None).unwrap();
                assert_eq!(device.memory.as_ref().unwrap().len(), 1);
            }
            device.remove_mem_region(&region).unwrap();
            assert_eq!(device.remove_mem_region(&region).is_ok(), again, "{pairs} pairs");
            assert!(device.memory.as_ref().unwrap().is_empty());
        }
    }
}
