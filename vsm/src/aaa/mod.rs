//! Who may log in, and what they may do: local users.
//!
//! The users themselves are configuration ([`crate::config::user`]). Here are their passwords and keys, which are tried
//! where somebody logs in ([`crate::mgmt`]), and the first administrator.

pub mod accounting;
pub mod initial;
pub mod login;
pub mod radius;
pub mod secret;
pub mod servers;
pub mod tacacs;

use crate::module::authority;

/// Random octets; `None`: the system has none.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut octets = [0; N];
    authority::provider().secure_random.fill(&mut octets).ok()?;
    Some(octets)
}
