//! The switch's servers on the loopback of the machine.
//!
//! The supervisor's addresses are in its namespace, which is no place for the programs that drive it. So for each server a process of that
//! namespace listens on 127.0.0.1 outside of it, at a port that the system chooses, and passes connections on. Being in the
//! namespace, it goes with the lab whatever happens.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::error::{Result, Tried};
use crate::netns;

/// Passes connections on until the process is ended. `outside` is the namespace to listen in, such as
/// `/proc/1/ns/net`; the address is written to the file `told`.
///
/// # Errors
/// It can't listen, or can't say where.
pub fn run(outside: &Path, to: SocketAddr, told: &Path) -> Result<()> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).tried("listening on 127.0.0.1");
    let listener = netns::within_at(outside, listen)?;
    let address = listener.local_addr().tried("own address")?;
    let new = told.with_extension("new");
    fs::write(&new, address.to_string()).tried(format!("{}", new.display()))?;
    fs::rename(&new, told).tried(format!("{}", told.display()))?;
    loop {
        match listener.accept() {
            Ok((near, _)) => {
                thread::spawn(move || {
                    if let Err(error) = pass(&near, to) {
                        eprintln!("lab: {to}: {error}");
                    }
                });
            }
            Err(error) => {
                eprintln!("lab: {address}: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Moves octets both ways until both sides have ended.
fn pass(near: &TcpStream, to: SocketAddr) -> io::Result<()> {
    let far = TcpStream::connect(to)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| one_way(near, &far));
        one_way(&far, near);
    });
    Ok(())
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream) {
    // Whatever ends it, the other side learns that nothing more will come.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn octets_pass_both_ways() {
        let far = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listening");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listening");
        let (to, address) = (far.local_addr().expect("address"), listener.local_addr().expect("address"));
        thread::spawn(move || pass(&listener.accept().expect("accepted").0, to));
        let mut near = TcpStream::connect(address).expect("connected");
        let (mut other, _) = far.accept().expect("accepted");
        near.write_all(b"question").expect("written");
        near.shutdown(Shutdown::Write).expect("shut");
        let mut text = String::new();
        other.read_to_string(&mut text).expect("read");
        other.write_all(b"answer").expect("written");
        drop(other);
        near.read_to_string(&mut text).expect("read");
        assert_eq!(text, "questionanswer");
    }
}
