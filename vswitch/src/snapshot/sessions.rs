//! What a snapshot knows of monitor sessions.

use std::sync::Arc;

use proto::addr::VlanId;

use super::{PortPolicy, SessionSet, Snapshot, limit};
use crate::config::{Error, Known, ReceiveConfig, RemoteConfig, SESSION_ID_MAX, SessionConfig};
use crate::observe::bpf::Program;
use crate::observe::erspan::{Received, TypeSeen};
use crate::observe::mirror::filter::{Fate, Filter, Own};
use crate::parse::Parsed;
use crate::port::PortId;
use crate::table::acl::list::Lists;
use crate::verdict::DropReason;
use crate::wire::ethernet::TAG;

/// How a frame is seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The VLAN that it is switched in, if there is one.
    pub vlan: Option<VlanId>,
    /// It goes no further than this host.
    pub dropped: bool,
}

/// A monitor session, running.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Its number.
    pub id: u16,
    /// Ports that get the copies.
    pub destinations: Vec<PortId>,
    /// Other hosts that get them.
    pub remotes: Vec<RemoteConfig>,
    /// Copies of other hosts that its destinations get.
    pub receive: Option<ReceiveConfig>,
    /// Of every so many frames one is copied.
    pub sampling: u32,
    /// Octets of a copy, at most.
    pub truncate: usize,
    /// What it looks for in a frame.
    pub bpf: Option<Arc<Program>>,
    /// What it looks for, as far as the flow tells.
    pub(super) filter: Filter,
}

impl Session {
    /// Copies of each frame.
    pub fn copies(&self) -> usize {
        self.destinations.len() + self.remotes.len()
    }
}

impl Snapshot {
    pub(super) fn add_session(
        &mut self,
        i: usize,
        session: &SessionConfig,
        lists: &Lists,
        own: &Arc<Own>,
    ) -> Result<(), Error> {
        let name = || format!("session {}", session.id);
        limit("number of a monitor session", session.id.into(), SESSION_ID_MAX.into())?;
        if self.sessions.iter().any(|other| other.id == session.id) {
            return Err(Error::Twice(name()));
        }
        let filter = Filter::new(session, lists, own).map_err(|list| Error::Dangling(name(), list))?;
        let bit: SessionSet = 1 << i;
        let mut each = |ports: &[PortId], mark: &dyn Fn(&mut PortPolicy)| -> Result<(), Error> {
            for port in ports {
                match self.port_mut(*port) {
                    Some(policy) => mark(policy),
                    None => return Err(Error::Dangling(name(), format!("port {}", port.0))),
                }
            }
            Ok(())
        };
        each(&session.rx_ports, &|port| port.rx_sessions |= bit)?;
        each(&session.tx_ports, &|port| port.tx_sessions |= bit)?;
        each(&session.destinations, &|port| port.mirror_destination = true)?;
        let mut destinations = session.destinations.clone();
        destinations.sort_unstable();
        destinations.dedup();
        if !filter.takes_all() {
            self.choosy |= bit;
        }
        let (sampling, bpf) = (session.sampling.unwrap_or(1).max(1), session.filter_bpf.clone());
        // Of what a program singles out the mirror knows.
        if sampling > 1 && bpf.is_none() {
            self.sampled |= bit;
        }
        let truncate = session.truncate.map_or(usize::MAX, usize::from);
        if session.truncate.is_some() && bpf.is_none() {
            self.cut |= bit;
        }
        let remotes = session.remotes.clone();
        for (sessions, reason) in self.drop_sessions.iter_mut().zip(0..) {
            *sessions |= (session.drops >> reason & 1) << i;
        }
        let receive = session.receive.clone();
        self.sessions.push(Session { id: session.id, destinations, remotes, receive, sampling, truncate, bpf, filter });
        Ok(())
    }

    /// Those of `sessions` that look for a frame which is seen so.
    #[inline]
    pub fn looking_for(&self, sessions: SessionSet, seen: Seen, frame: &Parsed) -> SessionSet {
        match sessions & self.choosy {
            0 => sessions,
            choosy => sessions & !choosy | self.choose(choosy, seen, frame),
        }
    }

    /// Sessions that copy frames which are dropped for `reason`.
    #[inline]
    pub fn drop_sessions(&self, reason: DropReason) -> SessionSet {
        self.drop_sessions.get(reason as usize).copied().unwrap_or(0)
    }

    /// What others call port `id`.
    pub fn number(&self, id: PortId) -> u32 {
        self.numbers.get(id.index()).copied().unwrap_or(0)
    }

    /// A session has a destination on another host.
    pub fn has_remotes(&self) -> bool {
        self.sessions.iter().any(|session| !session.remotes.is_empty())
    }

    /// A session takes copies of other hosts.
    pub fn receives(&self) -> bool {
        self.sessions.iter().any(|session| session.receive.is_some())
    }

    /// The session that such a copy is for, and whether it takes it of that host.
    pub fn receiving(&self, copy: &Received<'_>) -> Option<(&Session, bool)> {
        let all = self.sessions.iter().filter_map(|session| Some((session, session.receive.as_ref()?)));
        let knows = |receive: &ReceiveConfig| match (receive.by, copy.key) {
            (Known::Key(key), Some(is)) => key == is,
            (Known::Id(_), None) if copy.kind == TypeSeen::One => {
                receive.from.is_some() && receive.takes_of(copy.source)
            }
            (Known::Id(id), None) => id == copy.session,
            _ => false,
        };
        let mut fitting =
            all.filter(|(_, receive)| receive.at.is_none_or(|at| at == copy.destination) && knows(receive));
        fitting.next().map(|(session, receive)| (session, receive.takes_of(copy.source)))
    }

    /// Sessions that copy one of so many frames.
    #[inline(always)]
    pub fn sampled(&self) -> SessionSet {
        self.sampled
    }

    /// As many octets of a frame as `sessions` need of it, before a tag is put in.
    #[inline]
    pub fn octets_wanted(&self, sessions: SessionSet) -> usize {
        if sessions & !self.cut != 0 {
            return usize::MAX;
        }
        let asked = self.sessions.iter().enumerate().filter(|(i, _)| sessions >> i & 1 == 1);
        let most = asked.map(|(_, session)| session.truncate).max().unwrap_or(0);
        // A tag may be taken away.
        most.saturating_add(TAG)
    }

    fn choose(&self, choosy: SessionSet, seen: Seen, frame: &Parsed) -> SessionSet {
        let by_uplink = self.port(PortId(frame.key.in_port)).is_some_and(|port| port.config.uplink);
        let fate = Fate { by_uplink, dropped: seen.dropped };
        let takes = |session: &Session| session.filter.takes(seen.vlan, &frame.key, fate);
        let all = self.sessions.iter().enumerate();
        let refusing = all.filter(|(i, session)| choosy >> i & 1 == 1 && !takes(session));
        choosy & !refusing.fold(0, |set: SessionSet, (i, _)| set | 1 << i)
    }

    /// Sessions that look for other frames than the one in their place in `previous`.
    pub(super) fn refiltered(&self, previous: &Snapshot) -> SessionSet {
        let pairs = self.sessions.iter().zip(&previous.sessions).enumerate();
        let others = pairs.filter(|(_, (new, old))| new.filter != old.filter);
        others.fold(0, |set: SessionSet, (i, _)| set | 1 << i)
    }
}
