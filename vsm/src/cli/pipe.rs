//! Output filters.
