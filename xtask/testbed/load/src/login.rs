//! From nothing to a logged-in client, one blocking step after the other.
//!
//! The client asks for a fast start as tailscaled does, but waits for the greeting before it logs
//! in, so that it need not look for the server's key in the certificates.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use derp_proto::http::{DERP_PATH, FAST_START_HEADER, UPGRADE_DERP};
use derp_proto::{
    ClientInfo, FrameHeader, HEADER_LEN, KEY_LEN, NodePrivate, NodePublic, ServerFrame,
    ServerIdentity,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};

use crate::records::{RECORD_HEADER_LEN, Records, record_len};

/// How long each step of a login may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// How to reach the relay.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    pub(crate) security: Security,
    /// The socket's receive buffer in bytes, where it is not the system's choice.
    pub(crate) receive_buffer: Option<usize>,
}

/// What protects a connection.
#[derive(Debug, Clone)]
pub(crate) enum Security {
    Tls(Arc<ClientConfig>),
    /// Nothing: DERP over plain HTTP.
    Plain,
    /// Records without a handshake, as the bare relay speaks them.
    Bare,
}

/// A client that the relay has admitted.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) key: NodePublic,
    pub(crate) socket: TcpStream,
    /// None: DERP over plain HTTP.
    pub(crate) records: Option<Records>,
}

impl Target {
    /// Connects a client with a new key.
    pub(crate) fn log_in(&self) -> Result<LoggedIn> {
        let key = NodePrivate::from_random(random()?);
        let mut link = Link::connect(self)?;
        if let Security::Bare = self.security {
            return link.say_key(key.public());
        }
        let request = format!(
            "GET {DERP_PATH} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE_DERP}\r\n\
             {FAST_START_HEADER}: 1\r\n\r\n",
            self.addr
        );
        link.send(request.as_bytes())?;
        let greeting = link.receive_frame().context("waiting for the greeting")?;
        let Some((server, _)) = ServerIdentity::read(&greeting)? else {
            bail!("the greeting ends early");
        };
        let mut hello = Vec::new();
        let login = server.hello(&key, &ClientInfo::plain(), random()?, &mut hello)?;
        link.send(&hello)?;
        let answer = link.receive_frame().context("waiting to be admitted")?;
        let header = FrameHeader::parse(&answer).context("a frame has a header")?;
        let ServerFrame::ServerInfo(sealed) = ServerFrame::parse(header.ty, &answer[HEADER_LEN..])?
        else {
            bail!("{:?} in place of ServerInfo", header.ty);
        };
        login.open(sealed)?;
        ensure!(link.plain.is_empty(), "the server sent more than the login");
        let records = link.tls.map(Records::take_over).transpose()?;
        Ok(LoggedIn {
            key: key.public(),
            socket: link.socket,
            records,
        })
    }
}

/// A connection that reads no byte before it is wanted, so that it can be taken over at any
/// record's end.
struct Link {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    /// Received and decrypted, not used yet.
    plain: Vec<u8>,
}

impl Link {
    fn connect(target: &Target) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(target.addr), Type::STREAM, None)?;
        if let Some(size) = target.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        socket
            .connect_timeout(&target.addr.into(), DEADLINE)
            .context("connecting")?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        let mut link = Self {
            socket: socket.into(),
            tls: None,
            plain: Vec::new(),
        };
        if let Security::Tls(config) = &target.security {
            let name = ServerName::IpAddress(target.addr.ip().into());
            link.tls = Some(ClientConnection::new(Arc::clone(config), name)?);
            link.shake_hands().context("TLS handshake")?;
        }
        Ok(link)
    }

    /// Logs in at the bare relay, which answers by the same.
    fn say_key(mut self, key: NodePublic) -> Result<LoggedIn> {
        self.socket.write_all(key.as_bytes())?;
        let mut answer = [0; KEY_LEN];
        self.socket.read_exact(&mut answer)?;
        ensure!(answer == *key.as_bytes(), "this is no bare relay");
        Ok(LoggedIn {
            key,
            socket: self.socket,
            records: Some(Records::of_bare_client(&key)?),
        })
    }

    fn shake_hands(&mut self) -> Result<()> {
        self.flush()?;
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            self.receive()?;
            self.flush()?;
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(tls) = &mut self.tls else {
            return Ok(self.socket.write_all(bytes)?);
        };
        tls.writer().write_all(bytes)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// The next frame, its header included.
    fn receive_frame(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(header) = FrameHeader::parse(&self.plain) {
                let len = HEADER_LEN + usize::try_from(header.len)?;
                ensure!(
                    len <= 4096,
                    "{:?} of {len} bytes during the login",
                    header.ty
                );
                if self.plain.len() >= len {
                    return Ok(self.plain.drain(..len).collect());
                }
            }
            self.receive()?;
        }
    }

    /// Takes one record from the socket, or without TLS what there is.
    fn receive(&mut self) -> Result<()> {
        let Some(tls) = &mut self.tls else {
            let mut chunk = [0; 1024];
            let read = self.socket.read(&mut chunk)?;
            ensure!(read > 0, "the server closed the connection");
            self.plain.extend_from_slice(&chunk[..read]);
            return Ok(());
        };
        let mut record = vec![0; RECORD_HEADER_LEN];
        self.socket.read_exact(&mut record)?;
        record.resize(record_len(&record).context("a header has a length")?, 0);
        self.socket.read_exact(&mut record[RECORD_HEADER_LEN..])?;
        let mut rest = &record[..];
        while !rest.is_empty() {
            tls.read_tls(&mut rest)?;
            let state = tls.process_new_packets()?;
            let start = self.plain.len();
            self.plain
                .resize(start + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut self.plain[start..])?;
        }
        Ok(())
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
