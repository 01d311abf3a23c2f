//! The command line: a tree of commands, and sessions that walk it.
//!
//! ```text
//!   bytes ─▶ line ─▶ parse (tree, mode) ─▶ handler ─▶ Output ─▶ render ─▶ pipe ─▶ pager ─▶ bytes
//!                       └─ complete: `?`, Tab
//! ```

pub mod cmd;
pub mod complete;
pub mod console;
pub mod line;
pub mod parse;
pub mod pipe;
pub mod render;
pub mod session;
pub mod tree;
