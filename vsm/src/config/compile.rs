//! From the running configuration to what one host is to do.
