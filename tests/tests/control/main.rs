//! The control plane end to end, but for one test without a dataplane: enrolment, admission, push, resync, and what hostile or broken
//! peers can do to it. Supervisor and agents are this process's; between them is TCP and TLS as in production.

mod admission;
mod agent;
mod hostile;
mod push;
mod world;
