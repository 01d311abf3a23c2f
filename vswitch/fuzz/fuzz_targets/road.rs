//! Random configurations and frames through a whole worker: no panic, laws 1 and 2 hold.
#![no_main]

#[path = "../../tests/replay/body.rs"]
mod body;
#[path = "../../tests/oracle/draw.rs"]
mod draw;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::road(octets));
