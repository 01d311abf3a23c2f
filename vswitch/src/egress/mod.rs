//! Judges of what may go out.
