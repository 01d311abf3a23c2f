//! Who may log in, and what they may do: local users.
//!
//! The users themselves are configuration ([`crate::config::user`]). Here are their passwords and keys, which are tried
//! where somebody logs in ([`crate::mgmt`]), and the first administrator.

pub mod accounting;
pub mod initial;
pub mod login;
pub mod secret;
