//! Opening connections: TCP, and TLS as a case wants it, which passes through the case's [`Fault`]
//! as well.

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::conn::Conn;
use crate::context::Cx;
use crate::fault::Fault;
use crate::verdict::{Checked, Failure};
use crate::wire::{Drip, Handshake, Hello, Refused, Wire};

impl Cx {
    /// A connection as the URL says, ready for a request.
    pub(crate) async fn open(&self) -> Checked<Conn> {
        self.open_by(&Hello::default()).await
    }

    /// The same with this TLS hello, if TLS is spoken.
    pub(crate) async fn open_by(&self, hello: &Hello) -> Checked<Conn> {
        if !self.target().is_tls {
            return self.open_tcp(&self.target().address()).await;
        }
        let opened = self.open_tls(hello).await?;
        opened.map_err(|refused| Failure::new("a TLS handshake that succeeds", refused.text))
    }

    /// A TLS connection by this hello, or why there is none.
    pub(crate) async fn open_tls(&self, hello: &Hello) -> Checked<Result<Conn, Refused>> {
        let n = self.next_connection();
        let tcp = self.connect(&self.target().address()).await?;
        let handshake = timeout(self.patience(), Wire::tls(tcp, self.target(), hello));
        let Ok(result) = handshake.await else {
            return Err(Failure::new("the end of a TLS handshake", "nothing"));
        };
        let result = result.and_then(|opened| match self.fault() {
            Some(Fault::NoTls) => Err(Refused {
                alert: None,
                text: "the handshake fails".to_owned(),
            }),
            _ => Ok(opened),
        });
        match result {
            Ok((wire, handshake)) => {
                self.note(format!("#{n} TLS {:?}", handshake.version));
                let handshake = self.tampered(handshake, n);
                Ok(Ok(Conn::new(self, n, wire, Some(handshake))))
            }
            Err(_) if self.fault() == Some(Fault::NoRefusal) => {
                Err(Failure::new("the end of a TLS handshake", "nothing"))
            }
            Err(mut refused) => {
                self.note(format!("#{n} no TLS: {}", refused.text));
                if let Some(Fault::Alert(alert)) = self.fault() {
                    refused.alert = Some(alert);
                }
                Ok(Err(refused))
            }
        }
    }

    /// A TCP connection to `address`, whatever is spoken there.
    pub(crate) async fn open_tcp(&self, address: &str) -> Checked<Conn> {
        let n = self.next_connection();
        let tcp = self.connect(address).await?;
        let wire = Wire::Tcp(Drip { tcp, drips: false });
        Ok(Conn::new(self, n, wire, None))
    }

    async fn connect(&self, address: &str) -> Checked<TcpStream> {
        let connected = timeout(self.patience(), TcpStream::connect(address)).await;
        connected
            .map_err(|_| Failure::new("a connection", "no answer"))?
            .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
            .map_err(|err| Failure::new("a connection", err.to_string()))
    }

    /// What connection `n` seems to have agreed on.
    fn tampered(&self, mut handshake: Handshake, n: usize) -> Handshake {
        let chain = &mut handshake.chain;
        match self.fault() {
            Some(Fault::OtherVersion) => handshake.version = None,
            Some(Fault::Alpn(name)) => handshake.protocol = Some(name.as_bytes().to_vec()),
            Some(Fault::NoLastCertificate) => drop(chain.pop()),
            Some(Fault::ReverseChain) => chain.reverse(),
            Some(Fault::OtherCertificates) if n.is_multiple_of(2) => {
                if let Some(last) = chain.last_mut() {
                    let mut der = last.to_vec();
                    der.reverse();
                    *last = der.into();
                }
            }
            Some(Fault::Certificate(from, to)) => {
                if let Some(last) = chain.last_mut()
                    && let Some(at) = last.windows(from.len()).rposition(|part| part == from)
                {
                    let mut der = last.to_vec();
                    der[at..at + to.len()].copy_from_slice(to);
                    *last = der.into();
                }
            }
            _ => {}
        }
        handshake
    }
}
