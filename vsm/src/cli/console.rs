//! The Unix socket of `vsm cli`, and its client.
