//! The configuration as data: pure, no I/O.

pub mod aaa;
pub mod checkpoint;
pub mod compile;
mod elsewhere;
pub mod flow;
pub mod hostdiff;
pub mod ifindex;
pub mod line;
pub mod logging;
pub mod memo;
pub mod model;
pub mod monitor;
pub mod narrate;
pub mod patch;
pub mod profile;
#[cfg(test)]
mod random;
#[cfg(test)]
mod random_aaa;
#[cfg(test)]
mod random_monitor;
pub mod relay;
pub mod replace;
pub mod role;
pub mod rule;
pub mod running;
pub mod startup;
pub mod user;
