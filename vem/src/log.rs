//! Control-plane log.
