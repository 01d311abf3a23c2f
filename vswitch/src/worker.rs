//! The loop: receive, road, transmit, messages, timers.
