//! The TLS session to the supervisor: connect, hello, resync, reconnect.
