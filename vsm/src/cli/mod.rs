//! The command line: a tree of commands, and sessions that walk it.
//!
//! ```text
//!   bytes ─▶ line ─▶ parse (graph, mode) ─▶ handler ─▶ Output ─▶ render ─▶ pipe ─▶ pager ─▶ bytes
//!                       └─ complete: `?`, Tab
//! ```
//!
//! * `tree` holds what a command is, `graph` compiles all commands, `parse`, `argument` and `complete` walk the graph.
//! * `session` runs a line and gives text. It is all that startup and `vsm cli -c` need.
//! * `permit` holds what is typed against the roles of whoever typed it, `account` records what was done.
//! * `line`, `pager` and `terminal` make a session interactive; like the rest they do no I/O.
//! * `sessions` runs sessions, a thread each, on streams of octets: those of the console and those of SSH.
//! * `scp` copies files on such a stream.
//! * `console` is the Unix socket and its client. `cmd` holds the commands, a file per feature.

mod account;
pub mod argument;
pub mod cmd;
pub mod complete;
pub mod configured;
pub mod console;
pub mod graph;
pub mod line;
pub mod live;
pub mod logins;
pub mod pager;
pub mod parse;
mod permit;
pub mod pipe;
mod piped;
pub mod render;
pub mod scp;
pub mod service;
pub mod session;
pub mod sessions;
pub mod terminal;
pub mod tree;
pub mod words;
