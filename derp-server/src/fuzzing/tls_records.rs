//! Our TLS 1.3 records against rustls's, in the hands of somebody who may change each byte.

use std::io::{Read as _, Write as _};

use rustls::{ClientConnection, ContentType, ServerConnection};

use super::tls_handshake::{SUITES, connect};
use crate::sim::Choices;
use crate::tls13::{
    MAX_CONTENT, Opened, Opener, RECORD_HEADER, RECORD_TRAILER, RecordError, Sealer, record_len,
};

/// A connection between a client and the relay after its handshake, step by step.
///
/// The first byte says which cipher suite, and whether the client is rustls's, or one that has
/// the keys and seals what it likes. Then come steps, each a byte for its kind and what the kind
/// needs. Everything that the client sends is also read by a server of rustls's, and what we send
/// is read by the client of rustls's:
///
/// * content that we accept is content that rustls accepts, in the same order, no byte changed;
/// * as long as nobody touches the records of a client of rustls's, we accept all of them, and
///   rustls's client accepts all of ours;
/// * nothing is accepted of or behind the first record that was touched.
pub fn tls_records(data: &[u8]) {
    let mut choices = Choices::new(data);
    let Some(first) = choices.byte() else { return };
    let mut scene = Scene::new(usize::from(first) % SUITES.len(), first & 0x80 != 0);
    while scene.step(&mut choices).is_some() {}
}

struct Scene {
    to_us: ToUs,
    to_client: ToClient,
}

impl Scene {
    fn new(suite: usize, client_is_odd: bool) -> Self {
        let connected = connect(suite);
        let suite = connected.suite;
        let known = "the suites are those of TLS 1.3";
        let odd = client_is_odd
            .then(|| Sealer::new(suite, connected.from_client.clone(), 0).expect(known));
        Self {
            to_us: ToUs {
                odd,
                opener: Opener::new(suite, connected.from_client, 0).expect(known),
                oracle: connected.server,
                wire: Wire::default(),
                unread: Vec::new(),
                said: Vec::new(),
                heard: Heard::default(),
                oracle_heard: Heard::default(),
                updates: 0,
                most_updates: 0,
                client_failed: false,
                client_closed: false,
            },
            to_client: ToClient {
                sealer: Sealer::new(suite, connected.from_server, 0).expect(known),
                client: connected.client,
                wire: Wire::default(),
                said: Vec::new(),
                heard: Heard::default(),
            },
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let client = &mut self.to_client.client;
        match choices.byte()? % 16 {
            0 => self.to_us.client_says(client, pattern(choices.number()?)),
            1 => self.to_us.client_says(client, choices.bytes()?),
            2 => self.to_us.client_updates_its_key(client),
            3 => self.to_us.client_closes(client),
            4 => self.to_us.odd_record(choices.byte()?, choices.bytes()?),
            5 => match choices.byte()? {
                0 => self.to_us.padded_record(pattern(choices.number()?).len()),
                ty => self.to_us.odd_record(ty, pattern(choices.number()?)),
            },
            6 => self.to_client.we_say(pattern(choices.number()?)),
            7 => self.to_client.we_say(choices.bytes()?),
            8 => self.to_client.sealer.want_key_update(),
            9 => self.to_client.we_close(),
            10 => self.deliver_to_us(choices.number()?),
            11 => self.deliver_to_client(choices.number()?),
            12 => self.deliver_to_us(usize::MAX),
            13 => self.deliver_to_client(usize::MAX),
            14 => self.to_us.wire.tamper(choices)?,
            _ => self.to_client.wire.tamper(choices)?,
        }
        Some(())
    }

    fn deliver_to_us(&mut self, max: usize) {
        if self.to_us.deliver(max) {
            self.to_client.sealer.want_key_update();
        }
    }

    fn deliver_to_client(&mut self, max: usize) {
        // A client that has said goodbye has no way to say what is wrong.
        if self.to_us.client_closed && self.to_client.wire.touched.is_some() {
            return;
        }
        self.to_client.deliver(max);
        // It says so, in an alert.
        self.to_us.client_failed = self.to_client.heard.failed;
    }
}

/// What has come of one direction's content at a reader.
#[derive(Debug, Default)]
struct Heard {
    content: Vec<u8>,
    closed: bool,
    failed: bool,
}

impl Heard {
    const fn is_over(&self) -> bool {
        self.closed || self.failed
    }
}

/// The bytes of one direction that were sent and have not arrived.
#[derive(Debug, Default)]
struct Wire {
    bytes: Vec<u8>,
    /// How many have left it.
    gone: usize,
    /// All that was sent, before anybody touched it.
    honest: Vec<u8>,
    /// Where each record ends in that, and how much content was sent up to there.
    records: Vec<(usize, usize)>,
    /// The first byte that is not as it was sent.
    touched: Option<usize>,
}

impl Wire {
    /// A record is sent; the content sent so far goes up to `said`.
    fn send(&mut self, said: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.honest.extend_from_slice(&self.bytes[start..]);
        self.records.push((self.honest.len(), said));
        self.compare();
    }

    fn take(&mut self, max: usize) -> Vec<u8> {
        let len = self.bytes.len().min(max);
        self.gone += len;
        self.bytes.drain(..len).collect()
    }

    /// How much content may be accepted.
    fn acceptable(&self) -> usize {
        let untouched = self.touched.unwrap_or(usize::MAX);
        let last = self.records.iter().rfind(|(end, _)| *end <= untouched);
        last.map_or(0, |(_, said)| *said)
    }

    /// Changes, removes, repeats or adds something.
    fn tamper(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let (kind, at, len) = (choices.byte()?, choices.number()?, choices.byte()?);
        let at = at % (self.bytes.len() + 1);
        let end = self.bytes.len().min(at + usize::from(len));
        match kind % 5 {
            0 => {
                if let Some(byte) = self.bytes.get_mut(at) {
                    *byte ^= len;
                }
            }
            1 => drop(self.bytes.drain(at..end)),
            2 => drop(self.bytes.splice(at..at, self.bytes[at..end].to_vec())),
            3 => drop(self.bytes.splice(at..at, choices.bytes()?.to_vec())),
            _ => self.bytes.truncate(at),
        }
        self.compare();
        Some(())
    }

    /// Finds what is not as it was sent. What was touched twice may be as before.
    fn compare(&mut self) {
        if self.touched.is_some_and(|at| at < self.gone) {
            return;
        }
        let honest = &self.honest[self.gone.min(self.honest.len())..];
        let same = honest.iter().zip(&self.bytes).take_while(|(a, b)| a == b);
        let same = same.count();
        let is_touched = same < honest.len() || same < self.bytes.len();
        self.touched = is_touched.then_some(self.gone + same);
    }
}

/// From the client to us, and to the server of rustls's that reads along.
struct ToUs {
    /// The client's keys, where it is not rustls that uses them.
    odd: Option<Sealer>,
    opener: Opener,
    oracle: ServerConnection,
    wire: Wire,
    /// Received, and not a whole record yet.
    unread: Vec<u8>,
    said: Vec<u8>,
    heard: Heard,
    oracle_heard: Heard,
    /// Key updates without content between them.
    updates: usize,
    most_updates: usize,
    client_failed: bool,
    client_closed: bool,
}

impl ToUs {
    fn client_says(&mut self, client: &mut ClientConnection, content: &[u8]) {
        if self.odd.is_some() {
            for content in content.chunks(MAX_CONTENT) {
                self.odd_record(u8::from(ContentType::ApplicationData), content);
            }
            return;
        }
        // rustls takes no more than its buffer has room for at a time.
        for content in content.chunks(MAX_CONTENT) {
            let taken = client.writer().write(content);
            assert!(taken.is_ok() || self.client_failed);
            let taken = taken.unwrap_or(0);
            self.said.extend_from_slice(&content[..taken]);
            self.updates = 0;
            self.collect(client);
        }
    }

    fn client_updates_its_key(&mut self, client: &mut ClientConnection) {
        match &mut self.odd {
            None => {
                let updated = client.refresh_traffic_keys();
                assert!(updated.is_ok() || self.client_failed);
                self.collect(client);
            }
            Some(sealer) => self.wire.send(0, |out| {
                sealer.key_update(out).expect("keys have successors");
            }),
        }
        self.updates += 1;
        self.most_updates = self.most_updates.max(self.updates);
    }

    fn client_closes(&mut self, client: &mut ClientConnection) {
        self.client_closed = true;
        match &mut self.odd {
            None => {
                client.send_close_notify();
                self.collect(client);
            }
            Some(sealer) => self.wire.send(0, |out| sealer.close_notify(out)),
        }
    }

    fn collect(&mut self, client: &mut ClientConnection) {
        self.wire.send(self.said.len(), |out| {
            while client.wants_write() {
                client.write_tls(out).expect("a vector takes all");
            }
        });
    }

    /// A record of any type with anything in it, sealed as the client may.
    fn odd_record(&mut self, ty: u8, content: &[u8]) {
        let Some(sealer) = &mut self.odd else { return };
        let mut record = [&[0; RECORD_HEADER], content, &[0; RECORD_TRAILER]].concat();
        sealer.seal_as(ContentType::from(ty), &mut record);
        self.wire.send(0, |out| out.extend_from_slice(&record));
    }

    /// A record with content, its type, and so many zeros behind it.
    fn padded_record(&mut self, padding: usize) {
        let ty = u8::from(ContentType::ApplicationData);
        let inner = [&b"padded"[..], &[ty], &vec![0; padding]].concat();
        self.odd_record(0, &inner);
    }

    /// At most `max` bytes arrive. Says whether the client asks for our next key.
    fn deliver(&mut self, max: usize) -> bool {
        let bytes = self.wire.take(max);
        self.oracle_reads(&bytes);
        let asked = self.we_read(&bytes);
        self.check();
        asked
    }

    fn we_read(&mut self, bytes: &[u8]) -> bool {
        self.unread.extend_from_slice(bytes);
        let mut asked = false;
        while !self.heard.is_over() {
            match self.open_next() {
                Ok(None) => break,
                Ok(Some(Opened::Data(_))) => {}
                Ok(Some(Opened::KeyUpdate(asks))) => asked |= asks,
                Ok(Some(Opened::Closed)) => self.heard.closed = true,
                Err(error) => {
                    self.heard.failed = true;
                    let odd = self.odd.is_some() || self.wire.touched.is_some();
                    let expected = match error {
                        RecordError::Idle => self.most_updates > 32,
                        RecordError::Alert(_) => self.client_failed,
                        _ => false,
                    };
                    assert!(odd || expected, "an honest record is refused: {error}");
                }
            }
        }
        asked
    }

    fn open_next(&mut self) -> Result<Option<Opened>, RecordError> {
        let Some(len) = record_len(&self.unread)? else {
            return Ok(None);
        };
        if self.unread.len() < len {
            return Ok(None);
        }
        let mut record: Vec<u8> = self.unread.drain(..len).collect();
        let opened = self.opener.open(&mut record)?;
        if let Opened::Data(len) = opened {
            self.heard
                .content
                .extend_from_slice(&record[RECORD_HEADER..][..len]);
        }
        Ok(Some(opened))
    }

    fn oracle_reads(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.oracle_heard.is_over() {
            let Ok(_) = self.oracle.read_tls(&mut bytes) else {
                self.oracle_heard.failed = true;
                return;
            };
            let (state, failed) = match self.oracle.process_new_packets() {
                Ok(state) => (Some(state), false),
                Err(_) => (None, true),
            };
            self.oracle_heard.failed = failed;
            self.oracle_heard.closed = state.is_some_and(|state| state.peer_has_closed());
            // What came before an error can still be read, as far as there is any.
            let content = &mut self.oracle_heard.content;
            let _until_there_is_none = self.oracle.reader().read_to_end(content);
        }
    }

    fn check(&self) {
        let (ours, oracle) = (&self.heard, &self.oracle_heard);
        assert!(
            oracle.content.starts_with(&ours.content),
            "we accept what rustls does not"
        );
        if self.odd.is_some() {
            return;
        }
        assert!(
            self.said.starts_with(&ours.content),
            "we accept what was not said"
        );
        assert!(
            ours.content.len() <= self.wire.acceptable(),
            "we accept a record that was touched, or one behind it"
        );
        if self.wire.touched.is_none() && !ours.failed && !oracle.failed {
            assert_eq!(ours.content.len(), oracle.content.len());
            assert_eq!(ours.closed, oracle.closed);
        }
    }
}

/// From us to the client.
struct ToClient {
    sealer: Sealer,
    client: ClientConnection,
    wire: Wire,
    said: Vec<u8>,
    heard: Heard,
}

impl ToClient {
    fn we_say(&mut self, content: &[u8]) {
        for content in content.chunks(MAX_CONTENT) {
            self.said.extend_from_slice(content);
            self.wire.send(self.said.len(), |out| {
                if self.sealer.wants_key_update() {
                    self.sealer.key_update(out).expect("keys have successors");
                }
                let start = out.len();
                out.resize(start + RECORD_HEADER, 0);
                out.extend_from_slice(content);
                out.resize(out.len() + RECORD_TRAILER, 0);
                self.sealer.seal(&mut out[start..]);
            });
        }
    }

    fn we_close(&mut self) {
        self.wire
            .send(self.said.len(), |out| self.sealer.close_notify(out));
    }

    fn deliver(&mut self, max: usize) {
        let bytes = self.wire.take(max);
        let mut bytes = &bytes[..];
        while !bytes.is_empty() && !self.heard.is_over() {
            let read = self.client.read_tls(&mut bytes);
            let processed = read.map(|_| self.client.process_new_packets());
            match processed {
                Ok(Ok(state)) => self.heard.closed = state.peer_has_closed(),
                error => {
                    self.heard.failed = true;
                    let touched = self.wire.touched.is_some();
                    assert!(touched, "rustls refuses an honest record: {error:?}");
                }
            }
            let content = &mut self.heard.content;
            let _until_there_is_none = self.client.reader().read_to_end(content);
        }
        assert!(
            self.said.starts_with(&self.heard.content),
            "the client accepts what was not said"
        );
        let all_arrived = self.wire.bytes.is_empty() && self.wire.touched.is_none();
        if all_arrived && !self.heard.is_over() {
            assert_eq!(self.heard.content.len(), self.said.len());
        }
    }
}

/// A piece of content, mostly a short one, of which no byte is like its neighbours.
fn pattern(number: usize) -> &'static [u8] {
    /// Somewhat more than any record may have.
    const LONGEST: usize = MAX_CONTENT + 512;
    static PATTERN: [u8; LONGEST + 1] = {
        let mut bytes = [0; LONGEST + 1];
        let mut at = 0;
        while at < bytes.len() {
            bytes[at] = at.to_le_bytes()[0];
            at += 1;
        }
        bytes
    };
    let is_long = number >= 0xb000;
    let len = if is_long {
        number - 0xb000
    } else {
        number % 300
    };
    &PATTERN[..len.min(LONGEST)]
}
