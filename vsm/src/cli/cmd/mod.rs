//! The commands, one file per feature: grammar, handlers and show output together.
