//! State per frame.
