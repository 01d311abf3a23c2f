//! Any octets as a packet from the network to an ERSPAN destination: no panic, and what is accepted can be sent on.
#![no_main]

#[path = "../../tests/replay/body.rs"]
mod body;
#[path = "../../tests/oracle/draw.rs"]
mod draw;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::erspan(octets));
