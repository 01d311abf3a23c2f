//! Ports of this host: attach, detach, and what is known of each.
