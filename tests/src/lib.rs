//! End to end: the lab, and the checks that the shipped binaries have to pass in it.
//!
//! ```text
//!   bin/lab ─▶ lab (plan ─▶ build ─▶ summary)     a data centre in network namespaces
//!          └─▶ check/<theme>                       what the switch must show, by theme
//!                ├─ console   `vsm cli -c`         the administrator
//!                ├─ agent     `vem attach`         the server administrator
//!                ├─ browser   Chromium             whoever looks at the page
//!                ├─ traffic, ping, packet          the VMs
//!                ├─ collector `nfdump`             the analyst's flows
//!                ├─ capture   `tcpdump`, `tshark`  the analyst's packets
//!                └─ detector  `suricata`           the intrusion detector
//! ```
//!
//! `lab check` and `tests/tests/` run the same themes. Foreign programs are the judges wherever there is one.
#![deny(unsafe_code)]

pub mod agent;
pub mod bench;
pub mod browser;
pub mod capture;
pub mod check;
pub mod collector;
pub mod command;
pub mod console;
pub mod detector;
pub mod error;
pub mod frames;
pub mod guest;
pub mod lab;
pub mod netns;
pub mod packet;
pub mod ping;
pub mod process;
pub mod sensor;
pub mod traffic;
