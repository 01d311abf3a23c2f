//! The command line of `vsm`.
