//! The line editor, without I/O.
