//! `vsm.toml`: addresses and paths, and nothing else.
