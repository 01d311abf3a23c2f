//! Judges of what may come in, in the order in which they run.
