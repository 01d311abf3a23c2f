//! The control thread: one mio loop over the supervisor's session, the local socket and the host's devices.
