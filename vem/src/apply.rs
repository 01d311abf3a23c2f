//! Desired state to snapshot: names to numbers, profiles to ports.
