//! A connection: its login, and its channels.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use russh::keys::{Algorithm, PublicKey};
use russh::server::{self, Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::pump::{self, Far, Input};
use super::{Shared, key, methods};
use crate::aaa::login;
use crate::cli::logins::{Service, Visitor};
use crate::cli::scp;
use crate::cli::sessions::{TOO_MANY, Talk, Window};
use crate::mgmt::limits::{Connected, LOGIN_TIME};

/// Most channels of a connection.
const CHANNELS_MAX: usize = 10;
/// A connection without a channel is closed after one to two of these.
const LOOK: Duration = Duration::from_secs(30);

/// Accepts connections for ever.
pub async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("SSH: {error}"),
    };
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                if let Some(place) = shared.limits.enter(peer.ip()) {
                    tokio::spawn(serve(socket, peer, place, shared.clone()));
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: others must close first.
                tracing::warn!("SSH: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What the connection's task learns from its handler.
#[derive(Default)]
struct Life {
    logged_in: Notify,
    channels: AtomicUsize,
}

/// A channel counts for as long as this lives.
struct Occupied(Arc<Life>);

impl Occupied {
    fn new(life: &Arc<Life>) -> Self {
        life.channels.fetch_add(1, Ordering::Relaxed);
        Occupied(life.clone())
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.channels.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(socket: TcpStream, peer: SocketAddr, place: Connected, shared: Arc<Shared>) {
    if let Err(error) = converse(socket, peer, place, shared).await {
        tracing::debug!("SSH from {peer}: {error}");
    }
}

async fn converse(
    socket: TcpStream,
    peer: SocketAddr,
    mut place: Connected,
    shared: Arc<Shared>,
) -> Result<(), russh::Error> {
    let socket = socket.into_std()?;
    // By its copy the socket can be shut whatever russh waits for.
    let switch = Switch(socket.try_clone()?);
    let socket = TcpStream::from_std(socket)?;
    socket.set_nodelay(true)?;
    let life = Arc::new(Life::default());
    let config = shared.config.load_full();
    let handler =
        Connection { shared, peer: peer.ip(), life: life.clone(), visitor: Visitor::default(), seats: HashMap::new() };
    let deadline = tokio::time::Instant::now() + LOGIN_TIME;
    let begun = tokio::time::timeout_at(deadline, server::run_stream(config, socket, handler)).await;
    let mut running = begun.map_err(|_| russh::Error::ConnectionTimeout)??;
    tokio::select! {
        ended = &mut running => return ended,
        () = life.logged_in.notified() => place.logged_in(),
        () = tokio::time::sleep_until(deadline) => return Err(russh::Error::ConnectionTimeout),
    }
    let mut was_empty = false;
    loop {
        match timeout(LOOK, &mut running).await {
            Ok(ended) => return ended,
            Err(_) => {
                let is_empty = life.channels.load(Ordering::Relaxed) == 0;
                if is_empty && was_empty {
                    drop(switch);
                    return running.await;
                }
                was_empty = is_empty;
            }
        }
    }
}

/// Shuts the socket when it is dropped.
struct Switch(std::net::TcpStream);

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// A channel.
struct Seat {
    window: Arc<Window>,
    has_pty: bool,
    /// Until the session begins.
    occupied: Option<Occupied>,
    /// From then on, until the client has nothing more to type.
    input: Option<Input>,
    is_begun: bool,
}

/// The handler of a connection.
struct Connection {
    shared: Arc<Shared>,
    peer: IpAddr,
    life: Arc<Life>,
    /// Who has logged in; until then nobody, and nothing asks.
    visitor: Visitor,
    seats: HashMap<ChannelId, Seat>,
}

impl Connection {
    fn reject(&self, user: &str, how: &str) -> Auth {
        self.shared.handle.login_failed(&format!("{}@ssh", self.peer), user, how);
        self.shared.handle.logins().tell(Service::Ssh, false);
        self.shared.failures.log(self.shared.handle.log(), "SSH", user, self.peer, how);
        refusal()
    }

    fn accept(&mut self, visitor: Visitor, how: &str) -> Auth {
        let user = visitor.user.as_deref().unwrap_or_default();
        let text = format!("User {user} logged in from {} by {how}", self.peer);
        self.shared.handle.log().write("SSH", 6, "LOGIN", &text);
        self.shared.handle.logins().tell(Service::Ssh, true);
        self.visitor = visitor;
        Auth::Accept
    }

    /// The user has this key.
    fn has_key(&self, user: &str, public_key: &PublicKey, algorithm: &Algorithm) -> bool {
        let model = self.shared.handle.model();
        let stored = model.users.get(user).and_then(|user| user.key.as_deref());
        let is_sound = *algorithm != Algorithm::Rsa { hash: None };
        is_sound && stored.is_some_and(|stored| key::is_same(stored, public_key))
    }

    /// Opens a session on the channel; `commands` instead of a terminal.
    fn begin(&mut self, id: ChannelId, commands: Option<String>, session: &mut Session) -> Result<(), russh::Error> {
        let Some(seat) = self.seats.get_mut(&id).filter(|seat| !seat.is_begun) else {
            return session.channel_failure(id);
        };
        seat.is_begun = true;
        let refused = Arc::new(AtomicBool::new(false));
        let talk = match commands {
            Some(text) => match scp::request(&text) {
                Some(request) => Talk::Copy { request, refused: refused.clone() },
                None => Talk::Commands { text, crlf: seat.has_pty, refused: refused.clone() },
            },
            None => Talk::Terminal(seat.window.clone()),
        };
        let file_max = if let Talk::Copy { .. } = talk { scp::FILE_MAX } else { 0 };
        session.channel_success(id)?;
        let visitor = self.visitor.clone();
        let opened = pair().and_then(|(near, theirs)| {
            self.shared.sessions.open(theirs, visitor, talk)?;
            UnixStream::from_std(near)
        });
        match opened {
            Ok(near) => {
                let far = Far { client: session.handle(), channel: id, refused };
                seat.input = Some(pump::start(near, far, pump::AHEAD_MAX + file_max, seat.occupied.take()));
                Ok(())
            }
            Err(error) => {
                let is_full = error.kind() == io::ErrorKind::QuotaExceeded;
                let text = if is_full { TOO_MANY.to_owned() } else { format!("ERROR: {error}\r\n") };
                session.data(id, text.into_bytes())?;
                session.exit_status_request(id, 1)?;
                session.eof(id)?;
                session.close(id)
            }
        }
    }
}

/// Another attempt may be made, by any method.
fn refusal() -> Auth {
    Auth::Reject { proceed_with_methods: Some(methods()), partial_success: false }
}

/// Our end, for tokio, and the session's.
fn pair() -> io::Result<(std::os::unix::net::UnixStream, std::os::unix::net::UnixStream)> {
    let (near, theirs) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    Ok((near, theirs))
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, russh::Error> {
        Ok(refusal())
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        let (handle, name, password, from) =
            (self.shared.handle.clone(), user.to_owned(), password.to_owned(), self.peer);
        let tried = tokio::task::spawn_blocking(move || login::password(&handle, &name, &password, from));
        Ok(match tried.await.unwrap_or(None) {
            Some(visitor) => self.accept(visitor, "password"),
            None => self.reject(user, "password"),
        })
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        let is_known = self.has_key(user, offer.public_key, offer.algorithm);
        Ok(if is_known { Auth::Accept } else { refusal() })
    }

    async fn auth_publickey(&mut self, user: &str, proof: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let is_known = self.has_key(user, proof.public_key, proof.algorithm);
        if !is_known {
            return Ok(self.reject(user, "publickey"));
        }
        let visitor = Visitor { user: Some(user.to_owned()), from: Some(self.peer), ..Visitor::default() };
        Ok(self.accept(visitor, "publickey"))
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), russh::Error> {
        self.life.logged_in.notify_one();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.seats.retain(|_, seat| !seat.is_begun || seat.input.as_ref().is_some_and(|input| !input.is_over()));
        if self.life.channels.load(Ordering::Relaxed) >= CHANNELS_MAX {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let seat = Seat {
            window: Arc::default(),
            has_pty: false,
            occupied: Some(Occupied::new(&self.life)),
            input: None,
            is_begun: false,
        };
        self.seats.insert(channel.id(), seat);
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(seat) = self.seats.get_mut(&id).filter(|seat| !seat.is_begun) else {
            return session.channel_failure(id);
        };
        seat.has_pty = true;
        seat.window.set(rows, columns);
        session.channel_success(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        if let Some(seat) = self.seats.get(&id) {
            seat.window.set(rows, columns);
        }
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.begin(id, None, session)
    }

    async fn exec_request(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        self.begin(id, Some(String::from_utf8_lossy(data).into_owned()), session)
    }

    async fn subsystem_request(&mut self, id: ChannelId, _: &str, session: &mut Session) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        let Some(input) = self.seats.get(&id).and_then(|seat| seat.input.as_ref()) else { return Ok(()) };
        // The error ends the connection, and with it its sessions.
        if input.push(data) || input.is_over() { Ok(()) } else { Err(russh::Error::Pending) }
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.input = None;
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.seats.remove(&id);
        Ok(())
    }
}
