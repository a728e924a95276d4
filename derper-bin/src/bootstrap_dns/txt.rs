//! Looks up TXT records, which the system's resolver has no function for: one question over UDP to
//! the name servers of `/etc/resolv.conf`, one after the other.
//!
//! Answers that do not fit into a datagram are not fetched by TCP: a percentage always fits. Names
//! are full names; search domains are not tried.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, Question, RCODE, SimpleDnsError, TYPE, header_buffer,
    rdata::RData,
};
use tokio::net::UdpSocket;

use crate::random;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// How long a name server has for its answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often all of them are asked.
const ROUNDS: usize = 2;
/// The longest answer without extensions (RFC 1035, 4.2.1).
const LONGEST: usize = 512;

/// The texts of the TXT records of `name`.
///
/// # Errors
/// No name server answers, or there is no such name.
pub async fn look_up(name: &str) -> io::Result<Vec<String>> {
    let conf = tokio::fs::read_to_string(RESOLV_CONF).await?;
    look_up_at(name, &name_servers(&conf)).await
}

fn name_servers(conf: &str) -> Vec<SocketAddr> {
    let servers = conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let ip = (words.next()? == "nameserver").then(|| words.next())??;
        let ip: IpAddr = ip.parse().ok()?;
        Some(SocketAddr::new(ip, PORT))
    });
    servers.collect()
}

async fn look_up_at(name: &str, servers: &[SocketAddr]) -> io::Result<Vec<String>> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "there is no name server");
    for _ in 0..ROUNDS {
        for server in servers {
            match ask(name, *server).await {
                Ok(answer) => return answer,
                Err(err) => failed = io::Error::new(err.kind(), format!("{server}: {err}")),
            }
        }
    }
    Err(failed)
}

/// What the server answers; fails where another may know better.
async fn ask(name: &str, server: SocketAddr) -> io::Result<io::Result<Vec<String>>> {
    let id = random::number();
    let query = query(name, id).map_err(|_| io::Error::other("DNS has no such names"))?;
    let any: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    // From here on only the server's datagrams come in.
    socket.connect(server).await?;
    socket.send(&query).await?;
    let answer = async {
        let mut buffer = [0; LONGEST];
        loop {
            let len = socket.recv(&mut buffer).await?;
            if let Some(answer) = buffer.get(..len).and_then(|it| read(it, name, id)) {
                return answer;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A question with this number.
fn query(name: &str, id: u16) -> Result<Vec<u8>, SimpleDnsError> {
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    query.questions.push(question(name)?);
    query.build_bytes_vec()
}

fn question(name: &str) -> Result<Question<'_>, SimpleDnsError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    // The library takes dots that follow one another for one.
    if name.split('.').any(str::is_empty) {
        return Err(SimpleDnsError::InvalidServiceLabel);
    }
    let name = Name::new(name)?;
    Ok(Question::new(
        name,
        TYPE::TXT.into(),
        CLASS::IN.into(),
        false,
    ))
}

/// What a datagram says. `None` for one that is no answer to the question; the outer error is the
/// server's failure, and the inner one its word that there is no such name.
fn read(datagram: &[u8], name: &str, id: u16) -> Option<io::Result<io::Result<Vec<String>>>> {
    // Looked at first, for whoever does not know it need not be listened to.
    if header_buffer::id(datagram).ok()? != id {
        return None;
    }
    let answer = Packet::parse(datagram).ok()?;
    let asked = question(name).ok()?;
    let [repeated] = &answer.questions[..] else {
        return None;
    };
    let is_ours = answer.has_flags(PacketFlag::RESPONSE)
        && (&repeated.qname, repeated.qtype) == (&asked.qname, asked.qtype);
    if !is_ours {
        return None;
    }
    if answer.has_flags(PacketFlag::TRUNCATION) {
        let failed = io::Error::other("the answer does not fit into a datagram");
        return Some(Err(failed));
    }
    match answer.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => {
            let unknown = io::Error::new(io::ErrorKind::NotFound, "there is no such name");
            return Some(Ok(Err(unknown)));
        }
        code => {
            let failed = io::Error::other(format!("it answers with {code:?}"));
            return Some(Err(failed));
        }
    }
    // Beside them may be aliases that lead to them. A record's strings are one text, as in Go.
    let texts = answer.answers.into_iter().filter_map(|record| {
        let RData::TXT(text) = record.rdata else {
            return None;
        };
        String::try_from(text).ok()
    });
    Some(Ok(Ok(texts.collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name server that answers each question with these records behind it.
    async fn server(code: u8, answers: u8, records: Vec<u8>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; LONGEST];
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                // Somebody else's answer comes first.
                let mut stray = buffer[..len].to_vec();
                stray[0] ^= 0xff;
                stray[2] |= 0x80;
                socket.send_to(&stray, from).await.unwrap();
                let mut answer = buffer[..len].to_vec();
                answer[2] |= 0x80;
                answer[3] = code;
                answer[7] = answers;
                answer.extend_from_slice(&records);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        address
    }

    fn record(kind: u8, data: &[u8]) -> Vec<u8> {
        let len = u8::try_from(data.len()).unwrap();
        let mut record = vec![0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, len];
        record.extend_from_slice(data);
        record
    }

    #[tokio::test]
    async fn texts_are_found_behind_aliases_and_in_pieces() {
        let records = [record(5, b"\x01x\x00"), record(16, b"\x0250")];
        let address = server(0, 2, records.concat()).await;
        let texts = look_up_at("rollout.example.com", &[address]).await;
        assert_eq!(texts.unwrap(), ["50"]);
        let two = record(16, b"\x011\x010");
        let address = server(0, 1, two).await;
        assert_eq!(
            look_up_at("x.example.com.", &[address]).await.unwrap(),
            ["10"]
        );
    }

    #[tokio::test]
    async fn another_server_is_asked_where_one_fails_but_not_where_there_is_no_such_name() {
        let good = server(0, 1, record(16, b"\x017")).await;
        let broken = server(2, 0, Vec::new()).await;
        let unknown = server(3, 0, Vec::new()).await;
        assert_eq!(look_up_at("x", &[broken, good]).await.unwrap(), ["7"]);
        let err = look_up_at("x", &[unknown, good]).await.unwrap_err();
        assert_eq!(err.to_string(), "there is no such name");
        let err = look_up_at("x", &[broken]).await.unwrap_err();
        assert!(
            err.to_string().ends_with("it answers with ServerFailure"),
            "{err}"
        );
        assert!(look_up_at("x", &[]).await.is_err());
        for name in ["", "a..b", &"a".repeat(64), &"a.".repeat(200)] {
            assert!(look_up_at(name, &[good]).await.is_err(), "{name}");
        }
    }

    #[test]
    fn name_servers_are_those_of_the_file() {
        let conf = "# nameserver 192.0.2.9\nsearch example.com\nnameserver 192.0.2.1\n\
                    nameserver\t2001:db8::1 \nnameserver\nnameserver x\n";
        let expected: [SocketAddr; 2] = [
            "192.0.2.1:53".parse().unwrap(),
            "[2001:db8::1]:53".parse().unwrap(),
        ];
        assert_eq!(name_servers(conf), expected);
    }

    #[test]
    fn no_datagram_is_too_broken() {
        let name = "a.example.com";
        let mut answer = query(name, 7).unwrap();
        answer[2] |= 0x80;
        answer[7] = 2;
        answer.extend(record(16, b"\x0250"));
        answer.extend(record(16, b"\x017"));
        for len in 0..answer.len() {
            assert!(read(&answer[..len], name, 7).is_none(), "{len}");
        }
        for at in 0..answer.len() {
            let mut broken = answer.clone();
            broken[at] ^= 0xff;
            let _whatever = read(&broken, name, 7);
        }
        let texts = read(&answer, name, 7).unwrap().unwrap().unwrap();
        assert_eq!(texts, ["50", "7"]);
        assert!(read(&answer, name, 8).is_none());
        assert!(read(&answer, "b.example.com", 7).is_none());
    }
}
