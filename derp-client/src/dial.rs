//! A TCP connection to whichever of a server's addresses answers first.
//!
//! IPv4 and IPv6 race each other. Within a family, addresses are tried in the resolver's order,
//! each with a head start over the next, so that one dead address costs a moment and not the
//! attempt.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::endpoint::{Addresses, Family};
use crate::error::Fault;
use crate::url::Host;

/// How long IPv4 is held back where IPv6 is preferred (`derp/derphttp/derphttp_client.go`).
const IPV6_HEAD_START: Duration = Duration::from_millis(200);
/// How long an address has before the next one of its family is tried as well (RFC 8305, 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// How many addresses of a family are tried, whatever the resolver says.
const MOST_ADDRESSES: usize = 8;

/// Connects to `addresses` at `port`.
///
/// Dropping the future abandons every attempt.
pub(crate) async fn dial(
    addresses: &Addresses,
    port: u16,
    prefer_ipv6: bool,
) -> Result<TcpStream, Fault> {
    let names = Names {
        host: &addresses.host,
        port,
        found: OnceCell::new(),
    };
    let ipv4 = async {
        if prefer_ipv6 && addresses.ipv6 != Family::Off {
            sleep(IPV6_HEAD_START).await;
        }
        one_of(
            names.of_family(addresses.ipv4, IpAddr::is_ipv4).await?,
            port,
        )
        .await
    };
    let ipv6 = async {
        one_of(
            names.of_family(addresses.ipv6, IpAddr::is_ipv6).await?,
            port,
        )
        .await
    };
    match (addresses.ipv4 == Family::Off, addresses.ipv6 == Family::Off) {
        (false, true) => ipv4.await,
        (true, false) => ipv6.await,
        // Where both are off there is no address, and either says so.
        _ => either(ipv4, ipv6).await,
    }
}

/// What a host name stands for, looked up at most once for both families.
struct Names<'a> {
    host: &'a Host,
    port: u16,
    found: OnceCell<Vec<IpAddr>>,
}

impl Names<'_> {
    async fn of_family<A: Into<IpAddr>>(
        &self,
        family: Family<A>,
        is_member: impl Fn(&IpAddr) -> bool,
    ) -> Result<Vec<IpAddr>, Fault> {
        let found = match family {
            Family::Off => Vec::new(),
            Family::Literal(ip) => return Ok(vec![ip.into()]),
            Family::Lookup => {
                let found = self.found.get_or_try_init(|| self.look_up()).await;
                found.map_err(Fault::Dns)?.clone()
            }
        };
        Ok(found
            .into_iter()
            .filter(is_member)
            .take(MOST_ADDRESSES)
            .collect())
    }

    async fn look_up(&self) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((self.host.to_string(), self.port)).await?;
        Ok(found.map(|addr| addr.ip()).collect())
    }
}

/// The result of the future that succeeds first, or the more telling of both errors.
async fn either<T>(
    a: impl Future<Output = Result<T, Fault>>,
    b: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (first, second) = tokio::select! {
        first = &mut a => match first {
            Ok(done) => return Ok(done),
            Err(err) => (err, b.await),
        },
        first = &mut b => match first {
            Ok(done) => return Ok(done),
            Err(err) => (err, a.await),
        },
    };
    second.map_err(|second| match first {
        Fault::NoAddress => second,
        first => first,
    })
}

/// A connection to one of `ips`, or the first error.
async fn one_of(ips: Vec<IpAddr>, port: u16) -> Result<TcpStream, Fault> {
    let mut rest = ips.into_iter();
    let mut attempts = JoinSet::new();
    let mut first_error = None;
    loop {
        let more = match rest.next() {
            Some(ip) => {
                attempts.spawn(TcpStream::connect(SocketAddr::new(ip, port)));
                rest.len() > 0
            }
            None => false,
        };
        tokio::select! {
            done = attempts.join_next() => match done {
                None => return Err(first_error.map_or(Fault::NoAddress, Fault::Tcp)),
                Some(Ok(Ok(stream))) => {
                    // Packets are small and somebody waits for each of them.
                    stream.set_nodelay(true).map_err(Fault::Tcp)?;
                    return Ok(stream);
                }
                Some(Ok(Err(err))) => first_error = first_error.or(Some(err)),
                Some(Err(gone)) => {
                    first_error.get_or_insert_with(|| io::Error::other(gone));
                }
            },
            () = sleep(NEXT_ADDRESS), if more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    fn localhost(ipv4: Family<Ipv4Addr>, ipv6: Family<Ipv6Addr>) -> Addresses {
        Addresses {
            ipv4,
            ipv6,
            host: "localhost".parse().unwrap(),
        }
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn a_family_that_fails_leaves_it_to_the_other() {
        let (_listener, port) = listener().await;
        // Nobody listens on IPv6.
        let both = localhost(
            Family::Literal(Ipv4Addr::LOCALHOST),
            Family::Literal(Ipv6Addr::LOCALHOST),
        );
        for prefer_ipv6 in [false, true] {
            let stream = dial(&both, port, prefer_ipv6).await.unwrap();
            assert!(stream.peer_addr().unwrap().is_ipv4());
            assert!(stream.nodelay().unwrap());
        }
    }

    #[tokio::test]
    async fn names_are_looked_up_for_the_families_that_may_be_used() {
        let (_listener, port) = listener().await;
        let named = localhost(Family::Lookup, Family::Off);
        let stream = dial(&named, port, false).await.unwrap();
        assert_eq!(
            stream.peer_addr().unwrap(),
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn ipv4_is_held_back_where_ipv6_is_preferred() {
        let (_listener, port) = listener().await;
        let both = localhost(
            Family::Literal(Ipv4Addr::LOCALHOST),
            Family::Literal(Ipv6Addr::LOCALHOST),
        );
        let only = Addresses {
            ipv6: Family::Off,
            ..both.clone()
        };
        for (addresses, prefer_ipv6, held_back) in [
            (&both, true, IPV6_HEAD_START),
            (&both, false, Duration::ZERO),
            (&only, true, Duration::ZERO),
        ] {
            let begin = Instant::now();
            dial(addresses, port, prefer_ipv6).await.unwrap();
            let late = begin.elapsed();
            assert!(
                late.abs_diff(held_back) <= Duration::from_millis(1),
                "{late:?}"
            );
        }
    }

    #[tokio::test]
    async fn errors_are_the_most_telling_ones() {
        let (listener, port) = listener().await;
        drop(listener);
        let closed = localhost(Family::Literal(Ipv4Addr::LOCALHOST), Family::Off);
        let err = dial(&closed, port, false).await.unwrap_err();
        assert!(matches!(err, Fault::Tcp(io) if io.kind() == io::ErrorKind::ConnectionRefused));

        let nothing = localhost(Family::Off, Family::Off);
        assert!(matches!(
            dial(&nothing, port, false).await,
            Err(Fault::NoAddress)
        ));

        let err = either(async { Err::<(), _>(Fault::NoAddress) }, async {
            Err(Fault::Tcp(io::ErrorKind::ConnectionRefused.into()))
        });
        assert!(matches!(err.await, Err(Fault::Tcp(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_slower_family_has_its_chance_whichever_it_is() {
        let late = || async {
            sleep(NEXT_ADDRESS).await;
            Ok("late")
        };
        let failed = || async { Err(Fault::NoAddress) };
        assert_eq!(either(failed(), late()).await.unwrap(), "late");
        assert_eq!(either(late(), failed()).await.unwrap(), "late");
    }

    #[tokio::test]
    async fn a_dead_address_leaves_it_to_the_next() {
        let (_listener, port) = listener().await;
        // Nobody listens on the first; on Linux all of 127.0.0.0/8 is this machine.
        let ips = [Ipv4Addr::new(127, 0, 0, 9), Ipv4Addr::LOCALHOST].map(IpAddr::from);
        let stream = one_of(ips.to_vec(), port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), ips[1]);
    }
}
