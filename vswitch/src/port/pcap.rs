//! Capture files as a port.
