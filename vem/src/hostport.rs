//! The host's devices: netlink link state, and the host stack kept silent.
