//! One netlink watch for every namespace that has ports.
//!
//! A watch keeps its namespace alive, so one whose path leads elsewhere is closed: a deleted namespace must be able to
//! end. After a watch is opened its links are read once, so that nothing between is missed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd;
use std::path::Path;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::hostport::netlink::{Heard, Watch};
use crate::hostport::netns;

struct Place {
    watch: Watch,
    identity: Option<netns::Identity>,
    token: usize,
}

/// The watches.
pub struct Watches {
    places: BTreeMap<Option<String>, Place>,
    first: usize,
}

impl Watches {
    /// No watch yet; tokens from `first` on are ours.
    pub fn new(first: usize) -> Watches {
        Watches { places: BTreeMap::new(), first }
    }

    /// Opens and closes watches so that there is one for each of `wanted`. Returns the namespaces that are newly watched.
    pub fn follow(&mut self, wanted: &BTreeSet<Option<String>>, registry: &Registry) -> Vec<Option<String>> {
        let identity = |path: &Option<String>| path.as_deref().and_then(|p| netns::Identity::of(Path::new(p)).ok());
        self.places.retain(|path, place| {
            let keep = wanted.contains(path) && place.identity == identity(path);
            if !keep {
                let _ = registry.deregister(&mut SourceFd(&place.watch.as_raw_fd()));
            }
            keep
        });
        let mut new = Vec::new();
        for path in wanted {
            if self.places.contains_key(path) || (path.is_some() && identity(path).is_none()) {
                continue;
            }
            match self.open(path, identity(path), registry) {
                Ok(place) => {
                    self.places.insert(path.clone(), place);
                    new.push(path.clone());
                }
                Err(error) => tracing::warn!(namespace = path, %error, "link states not watched"),
            }
        }
        new
    }

    /// Something happened at `token`: gives what was heard to `tell` with its namespace. `None` when the token is not
    /// ours, else whether there may be more.
    pub fn on_event(&mut self, token: Token, mut tell: impl FnMut(Option<&str>, Heard)) -> Option<bool> {
        let (path, place) = self.places.iter_mut().find(|(_, place)| place.token == token.0)?;
        Some(place.watch.drain(|heard| tell(path.as_deref(), heard)))
    }

    fn open(
        &self,
        path: &Option<String>,
        identity: Option<netns::Identity>,
        registry: &Registry,
    ) -> Result<Place, std::io::Error> {
        let open = netns::inside(path.as_deref().map(Path::new), Watch::open);
        let watch = open.map_err(std::io::Error::other)??;
        let used: BTreeSet<usize> = self.places.values().map(|p| p.token).collect();
        let token = (self.first..).find(|token| !used.contains(token)).unwrap_or(self.first);
        registry.register(&mut SourceFd(&watch.as_raw_fd()), Token(token), Interest::READABLE)?;
        Ok(Place { watch, identity, token })
    }
}
