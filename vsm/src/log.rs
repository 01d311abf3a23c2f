//! The log: NX-OS lines, kept for `show logging`.
