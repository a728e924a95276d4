use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn record(content_type: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[content_type, 3, 3, high, low], payload].concat()
}

/// An input that comes in pieces of these lengths, with nothing between them and then its end.
#[derive(Debug)]
struct Pieces {
    wire: Vec<u8>,
    at: usize,
    lens: Vec<usize>,
    reads: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.reads += 1;
        // Every other time nothing has come yet.
        if this.reads.is_multiple_of(2) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let len = this.lens[this.reads / 2 % this.lens.len()];
        let len = len.min(this.wire.len() - this.at).min(buf.remaining());
        buf.put_slice(&this.wire[this.at..this.at + len]);
        this.at += len;
        Poll::Ready(Ok(()))
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// What is handed over of `records`, which all have come, and whether it ends in an error.
fn handed_over(mut aligned: RecordAligned<&[u8]>, until_over: usize) -> (usize, bool) {
    run(async {
        let mut handed = 0;
        loop {
            if handed >= until_over {
                aligned.end_handshake();
            }
            match aligned.read(&mut [0; 1 << 15]).await {
                Ok(0) => return (handed, false),
                Ok(len) => handed += len,
                Err(_) => return (handed, true),
            }
        }
    })
}

#[test]
fn a_handshake_is_handed_over_up_to_a_bound() {
    const HELLO: usize = 16 << 10;
    // The length that the hello announces, in records of the largest size.
    let mut hello = vec![1, 0, 0xfd, 0xe8];
    hello.resize(HELLO, 0);
    let wire = record(22, &hello).repeat(4);
    let aligned = RecordAligned::for_handshake(&wire[..], HELLO);
    assert_eq!(handed_over(aligned, usize::MAX), (HELLO + 5, true));
    // The second need not have come.
    let aligned = RecordAligned::for_handshake(&wire[..HELLO + 10], HELLO);
    assert_eq!(handed_over(aligned, usize::MAX), (HELLO + 5, true));

    // A large hello, the end of a handshake, and as large a record behind it.
    let hello = record(22, &[0; 15 << 10]);
    let wire = [hello, record(23, &[0; 69]), record(23, &[0; HELLO + 256])].concat();
    let aligned = RecordAligned::for_handshake(&wire[..], HELLO);
    assert_eq!(handed_over(aligned, usize::MAX), (wire.len(), false));
    // Then there is no bound, once TLS knows that the handshake is over.
    let session = record(23, &[0; HELLO + 256]).repeat(4);
    let whole = [wire.clone(), session].concat();
    let aligned = RecordAligned::for_handshake(&whole[..], HELLO);
    assert_eq!(handed_over(aligned, wire.len()), (whole.len(), false));
    let aligned = RecordAligned::for_handshake(&whole[..], HELLO);
    assert_eq!(handed_over(aligned, usize::MAX), (wire.len(), true));
}

#[tokio::test]
async fn a_record_is_handed_over_only_when_all_of_it_is_there() {
    let (mut peer, io) = tokio::io::duplex(1 << 20);
    let mut aligned = RecordAligned::new(io);
    let wire = record(23, b"hello");
    peer.write_all(&wire[..9]).await.unwrap();
    let mut buf = [0; 100];
    {
        let mut read = by_hand(aligned.read(&mut buf));
        assert!(read.poll().is_pending());
        peer.write_all(&wire[9..]).await.unwrap();
        assert!(matches!(read.poll(), Poll::Ready(Ok(10))));
    }
    assert_eq!(&buf[..10], wire);
}

#[tokio::test]
async fn a_read_never_goes_beyond_a_record() {
    let (mut peer, io) = tokio::io::duplex(1 << 20);
    let mut aligned = RecordAligned::new(io);
    let records = [
        record(22, b"a"),
        record(20, b""),
        record(23, &[7; 16_640]),
        record(21, b"bc"),
    ];
    peer.write_all(&records.concat()).await.unwrap();
    for record in &records {
        let mut buf = vec![0; 1 << 16];
        let len = aligned.read(&mut buf).await.unwrap();
        assert!(buf[..len] == *record, "{len} bytes");
    }
}

#[tokio::test]
async fn what_was_read_and_not_handed_over_comes_back() {
    let (mut peer, io) = tokio::io::duplex(1 << 20);
    let mut aligned = RecordAligned::new(io);
    let wire = [record(23, b"first"), record(23, b"second"), vec![23, 3, 3]].concat();
    peer.write_all(&wire).await.unwrap();
    let mut first = [0; 10];
    aligned.read_exact(&mut first).await.unwrap();
    let (mut io, unread) = aligned.into_parts();
    assert_eq!(unread, &wire[10..]);
    peer.write_all(b"later").await.unwrap();
    let mut later = [0; 5];
    io.read_exact(&mut later).await.unwrap();
    assert_eq!(&later, b"later");
}

#[tokio::test]
async fn a_buffer_lives_only_as_long_as_it_holds_something() {
    let (mut peer, io) = tokio::io::duplex(1 << 20);
    let mut aligned = RecordAligned::new(io);
    let long = record(23, &[7; 16_640]);
    peer.write_all(&long).await.unwrap();
    let mut buf = vec![0; long.len()];
    aligned.read_exact(&mut buf).await.unwrap();
    assert_eq!(aligned.buf.capacity(), 0);

    // With the beginning of another record behind it, which may stay alone for long.
    peer.write_all(&[&long[..], &[23, 3]].concat())
        .await
        .unwrap();
    aligned.read_exact(&mut buf).await.unwrap();
    assert!(by_hand(aligned.read(&mut buf)).poll().is_pending());
    assert!(
        aligned.buf.capacity() < 64,
        "{} bytes are kept",
        aligned.buf.capacity()
    );
}

#[tokio::test]
async fn an_announced_length_reserves_nothing() {
    let (mut peer, io) = tokio::io::duplex(1 << 20);
    let mut aligned = RecordAligned::new(io);
    peer.write_all(&[23, 3, 3, 0x41, 0x00]).await.unwrap();
    assert!(by_hand(aligned.read(&mut [0; 10])).poll().is_pending());
    assert!(
        aligned.buf.capacity() < 64,
        "{} bytes are kept",
        aligned.buf.capacity()
    );
}

#[tokio::test]
async fn what_is_no_record_is_an_error_at_once() {
    for (wire, why) in [
        (&[23, 3, 3, 0x41, 0x01][..], "TLS record too long"),
        (b"GET /", "not a TLS record"),
        (&[24, 3, 3, 0, 3], "not a TLS record"),
        (&[22, 2, 0, 0, 3], "not a TLS record"),
    ] {
        let error = RecordAligned::new(wire)
            .read(&mut [0; 10])
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::InvalidData, why)
        );
    }
}

#[tokio::test]
async fn half_a_record_at_the_end_is_not_handed_over() {
    let wire = [
        record(23, b"whole"),
        vec![23, 3, 3, 0, 5, b'h', b'a', b'l', b'f'],
    ]
    .concat();
    let mut received = Vec::new();
    RecordAligned::new(&wire[..])
        .read_to_end(&mut received)
        .await
        .unwrap();
    assert_eq!(received, &wire[..10]);
}

/// A future that is polled by hand.
struct ByHand<F>(Pin<Box<F>>);

fn by_hand<F: Future>(future: F) -> ByHand<F> {
    ByHand(Box::pin(future))
}

impl<F: Future> ByHand<F> {
    fn poll(&mut self) -> Poll<F::Output> {
        self.0
            .as_mut()
            .poll(&mut Context::from_waker(std::task::Waker::noop()))
    }
}

proptest! {
    #[test]
    fn however_records_come_they_are_read_one_by_one(
        records in proptest::collection::vec(
            (20_u8..=23, prop_oneof![0_usize..10, 0_usize..300, 16_000_usize..16_641]), 1..6),
        lens in proptest::collection::vec(
            prop_oneof![1_usize..4, 1_usize..200, 1_usize..10_000], 1..20),
        reads in proptest::collection::vec(prop_oneof![1_usize..8, 1_usize..20_000], 1..20),
    ) {
        let records: Vec<_> = records
            .into_iter()
            .enumerate()
            .map(|(index, (ty, len))| record(ty, &vec![u8::try_from(index).unwrap(); len]))
            .collect();
        let wire = records.concat();
        let pieces = Pieces { wire: wire.clone(), at: 0, lens, reads: 0 };
        let mut aligned = RecordAligned::new(pieces);
        let mut reads = reads.into_iter().cycle();
        for record in &records {
            let mut received = Vec::new();
            while received.len() < record.len() {
                let mut buf = vec![0; reads.next().unwrap()];
                let len = run(aligned.read(&mut buf)).unwrap();
                prop_assert!(len > 0, "the input ends early");
                received.extend_from_slice(&buf[..len]);
                // Nothing is lost on the way, and nothing is behind the record.
                prop_assert!(aligned.io.at >= record.len());
            }
            prop_assert!(received == *record);
        }
        prop_assert_eq!(run(aligned.read(&mut [0; 9])).unwrap(), 0);
        prop_assert!(aligned.io.at == wire.len());
    }
}
