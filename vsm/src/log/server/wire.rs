//! The socket to a server.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// Most time to connect, and for the system to take a line.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to a server; it is opened when there is something to send, and anew after an error.
pub(super) struct Wire {
    host: String,
    port: u16,
    is_tcp: bool,
    socket: Option<Socket>,
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Wire {
    pub(super) fn new(host: &str, port: u16, is_tcp: bool) -> Self {
        Wire { host: host.to_owned(), port, is_tcp, socket: None }
    }

    /// A line that can't be sent waits.
    pub(super) fn waits(&self) -> bool {
        self.is_tcp
    }

    /// Sends a line. An error of the line before this one is in the result.
    pub(super) fn send(&mut self, octets: &[u8]) -> io::Result<Option<io::Error>> {
        let sent = match self.open()? {
            Socket::Udp(socket) => datagram(socket, octets),
            Socket::Tcp(stream) => counted(stream, octets).map(|()| None),
        };
        if sent.is_err() {
            self.socket = None;
        }
        sent
    }

    fn open(&mut self) -> io::Result<&mut Socket> {
        let socket = match self.socket.take() {
            Some(Socket::Tcp(stream)) if has_ended(&stream) => self.connect()?,
            Some(socket) => socket,
            None => self.connect()?,
        };
        Ok(self.socket.insert(socket))
    }

    fn connect(&self) -> io::Result<Socket> {
        let mut outcome = Err(io::Error::new(ErrorKind::NotFound, "the name has no address"));
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            outcome = if self.is_tcp { stream(address) } else { udp(address) };
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

fn udp(address: SocketAddr) -> io::Result<Socket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(Socket::Udp(socket))
}

fn stream(address: SocketAddr) -> io::Result<Socket> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(Socket::Tcp(stream))
}

/// A connected socket tells with the next datagram that the one before came back.
fn datagram(socket: &UdpSocket, octets: &[u8]) -> io::Result<Option<io::Error>> {
    match socket.send(octets) {
        Ok(_) => Ok(None),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => socket.send(octets).map(|_| Some(e)),
        Err(e) => Err(e),
    }
}

/// RFC 6587 section 3.4.1: the number of octets, a blank, the line.
fn counted(stream: &mut TcpStream, octets: &[u8]) -> io::Result<()> {
    let frame = [format!("{} ", octets.len()).as_bytes(), octets].concat();
    stream.write_all(&frame)
}

/// A server says nothing, so all that can be read is the end.
fn has_ended(stream: &TcpStream) -> bool {
    let peek = |stream: &TcpStream| {
        stream.set_nonblocking(true)?;
        let seen = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        seen
    };
    match peek(stream) {
        Ok(count) => count == 0,
        Err(e) => e.kind() != ErrorKind::WouldBlock,
    }
}
