//! `?` and Tab.
