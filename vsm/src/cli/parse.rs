//! From a typed line to a command and its arguments.
