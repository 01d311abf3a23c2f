//! The TLS server that agents connect to.
