//! Network namespaces: work in one, and know it again.
//!
//! A thread of its own enters the namespace, does the work and ends; the agent's threads never leave theirs. What was
//! opened inside (a tap, a packet socket, a netlink socket) goes on working from outside, and keeps the namespace alive:
//! that is why the agent looks whether the path still leads to it, and closes the ports of one that was deleted.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Error;

/// Which namespace a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The namespace at `path`.
    ///
    /// # Errors
    /// Nothing is there.
    pub fn of(path: &Path) -> Result<Identity, Error> {
        let found = std::fs::metadata(path).map_err(|source| namespace(path, source))?;
        Ok(Identity { device: found.dev(), inode: found.ino() })
    }
}

fn namespace(path: &Path, source: io::Error) -> Error {
    Error::Namespace { path: path.display().to_string(), source }
}

/// Does `work` in the namespace at `path`, or where we are.
///
/// # Errors
/// The namespace can't be entered; nothing was done.
pub fn inside<T: Send>(path: Option<&Path>, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let Some(path) = path else { return Ok(work()) };
    let file = File::open(path).map_err(|source| namespace(path, source))?;
    let ended = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok::<T, io::Error>(work())
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
    });
    ended.map_err(|source| namespace(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_namespace_is_refused() {
        for path in ["/run/netns/vem-none-of-that-name", "/dev/null"] {
            let refused = inside(Some(Path::new(path)), || panic!("worked in {path}"));
            assert!(matches!(refused, Err::<(), _>(Error::Namespace { .. })), "{path}");
        }
        assert!(Identity::of(Path::new("/run/netns/vem-none-of-that-name")).is_err());
        assert_eq!(inside(None, || 7).unwrap(), 7);
    }
}
