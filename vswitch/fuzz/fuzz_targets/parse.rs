//! Any octets as a frame with any virtio header: no panic, and what is accepted can be cut and completed.
#![no_main]

#[path = "../../tests/replay/body.rs"]
mod body;
#[path = "../../tests/oracle/draw.rs"]
mod draw;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::parse(octets));
