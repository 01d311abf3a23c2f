//! From CLI text to a running configuration.
