//! TCP to the first of several addresses that answers. One that swallows packets, as all of them do
//! where IPv6 is broken, has its share of the time and no more.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// Clients give a node 1.5 s; an operator's own way there may be longer.
const EACH_ADDRESS: Duration = Duration::from_secs(3);

/// Connects to the first of the addresses that answers, in their order; else says what was wrong
/// with the first of them all. `None` where there is none.
pub(crate) async fn first(
    addresses: impl IntoIterator<Item = SocketAddr>,
) -> Result<TcpStream, Option<(SocketAddr, io::Error)>> {
    let mut first_fault = None;
    for address in addresses {
        let err = match timeout(EACH_ADDRESS, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(err)) => err,
            Err(late) => io::Error::new(io::ErrorKind::TimedOut, late),
        };
        first_fault.get_or_insert((address, err));
    }
    Err(first_fault)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_swallows_packets_has_its_share_of_the_time() {
        // Whoever accepts nothing and has no room left swallows packets.
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(1).unwrap();
        let full_at = full.local_addr().unwrap();
        let mut room = Vec::new();
        while let Ok(stream) = timeout(EACH_ADDRESS, TcpStream::connect(full_at)).await {
            room.push(stream.unwrap());
        }
        let well = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let well_at = well.local_addr().unwrap();

        let begin = Instant::now();
        let stream = first([full_at, well_at]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), well_at);
        assert_eq!(begin.elapsed().as_secs(), EACH_ADDRESS.as_secs());
        let (address, err) = first([full_at]).await.unwrap_err().unwrap();
        assert_eq!((address, err.kind()), (full_at, io::ErrorKind::TimedOut));
        assert!(first([]).await.unwrap_err().is_none());
    }
}
