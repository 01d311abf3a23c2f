//! Data structures without policy.
