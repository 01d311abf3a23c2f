//! The local socket of `vem attach`, `detach`, `ports` and `cmd`.
