//! The first bytes of a TLS connection, ready to be sent as often as one likes.

use anyhow::Result;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::tls::{self, Version};

/// A ClientHello record that a server answers, as anybody could have recorded it.
pub(crate) fn client_hello() -> Result<Vec<u8>> {
    let name = ServerName::try_from("127.0.0.1")?;
    let mut connection = ClientConnection::new(tls::config(Version::Tls13)?, name)?;
    let mut hello = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut hello)?;
    }
    Ok(hello)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_one_whole_handshake_record() {
        let hello = client_hello().unwrap();
        let len = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
        assert_eq!((hello[0], hello.len()), (22, 5 + len));
    }
}
