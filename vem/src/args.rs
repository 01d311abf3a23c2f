//! The command line of `vem`.
