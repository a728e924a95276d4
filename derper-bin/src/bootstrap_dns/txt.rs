//! Looks up TXT records, which the system's resolver has no function for: one question over UDP to
//! the name servers of `/etc/resolv.conf`, one after the other.
//!
//! Answers that do not fit into a datagram are not fetched by TCP: a percentage always fits. Names
//! are full names; search domains are not tried.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

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
const TYPE_TXT: u16 = 16;
const CLASS_IN: u16 = 1;

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
    let query = query(name, id).ok_or_else(|| io::Error::other("the name is too long"))?;
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
            if let Some(answer) = buffer.get(..len).and_then(|it| read(it, &query)) {
                return answer;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A question with this number, or nothing where DNS has no such names.
fn query(name: &str, id: u16) -> Option<Vec<u8>> {
    let mut query = Vec::new();
    query.extend_from_slice(&id.to_be_bytes());
    // A plain query that wants recursion, with one question.
    query.extend_from_slice(&[0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let len = u8::try_from(label.len())
            .ok()
            .filter(|len| (1..64).contains(len))?;
        query.push(len);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&TYPE_TXT.to_be_bytes());
    query.extend_from_slice(&CLASS_IN.to_be_bytes());
    (query.len() <= 255 + 17).then_some(query)
}

/// What a datagram says. `None` for one that is no answer to the question; the outer error is the
/// server's failure, and the inner one its word that there is no such name.
fn read(datagram: &[u8], query: &[u8]) -> Option<io::Result<io::Result<Vec<String>>>> {
    let mut rest = Rest(datagram);
    let header: [u8; 12] = rest.take(12)?.try_into().ok()?;
    let [
        id_high,
        id_low,
        flags,
        code,
        _,
        questions,
        answers_high,
        answers_low,
        ..,
    ] = header;
    let is_ours = query.get(..2)? == [id_high, id_low] && flags & 0x80 != 0;
    let question = query.get(12..)?;
    if !is_ours || questions != 1 || !rest.take(question.len())?.eq_ignore_ascii_case(question) {
        return None;
    }
    match code & 0x0f {
        0 => {}
        3 => {
            let unknown = io::Error::new(io::ErrorKind::NotFound, "there is no such name");
            return Some(Ok(Err(unknown)));
        }
        code => {
            return Some(Err(io::Error::other(format!(
                "it answers with code {code}"
            ))));
        }
    }
    if flags & 0x02 != 0 {
        return Some(Err(io::Error::other(
            "the answer does not fit into a datagram",
        )));
    }
    let answers = u16::from_be_bytes([answers_high, answers_low]);
    let texts = (0..answers).map_while(|_| rest.record()).flatten();
    Some(Ok(Ok(texts.collect())))
}

/// What is left of a datagram.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    }

    /// Goes past a name, which ends with an empty label, or with a reference to another name.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            let [len] = self.take(1)?.try_into().ok()?;
            match len {
                0 => return Some(()),
                0xc0.. => return self.take(1).map(drop),
                len => self.take(usize::from(len)).map(drop)?,
            }
        }
    }

    /// The text of the next record: its strings in one, as in Go. The inner value is `None` for
    /// records of other types, such as aliases on the way.
    fn record(&mut self) -> Option<Option<String>> {
        self.skip_name()?;
        let (kind, class) = (self.number()?, self.number()?);
        let _time_to_live = self.take(4)?;
        let len = usize::from(self.number()?);
        let mut data = Rest(self.take(len)?);
        if (kind, class) != (TYPE_TXT, CLASS_IN) {
            return Some(None);
        }
        let mut text = Vec::new();
        while let Some(&[len]) = data.take(1) {
            text.extend_from_slice(data.take(usize::from(len))?);
        }
        Some(String::from_utf8(text).ok())
    }
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
        let records = [
            record(5, b"\x01x\x00"),
            record(16, b"\x0250"),
            record(16, b"\x021\x010"),
        ];
        // The last one is broken off in its second string.
        let address = server(0, 3, records[..2].concat()).await;
        let texts = look_up_at("rollout.example.com", &[address]).await;
        assert_eq!(texts.unwrap(), ["50"]);
        let two = record(16, b"\x011\x010");
        let address = server(0, 1, two).await;
        assert_eq!(
            look_up_at("x.example.com.", &[address]).await.unwrap(),
            ["10"]
        );
        let address = server(0, 3, records.concat()).await;
        assert_eq!(look_up_at("x", &[address]).await.unwrap(), ["50"]);
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
        assert!(err.to_string().ends_with("it answers with code 2"), "{err}");
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
        let query = query("a.example.com", 7).unwrap();
        let mut answer = query.clone();
        answer[2] |= 0x80;
        answer[7] = 2;
        answer.extend(record(16, b"\x0250"));
        for len in 0..answer.len() {
            let _whatever = read(&answer[..len], &query);
        }
        for at in 0..answer.len() {
            let mut broken = answer.clone();
            broken[at] ^= 0xff;
            let _whatever = read(&broken, &query);
        }
        let texts = read(&answer, &query).unwrap().unwrap().unwrap();
        assert_eq!(texts, ["50"]);
    }
}
