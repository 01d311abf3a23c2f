//! What a device may leave to us: completing checksums and cutting super-frames into segments.
