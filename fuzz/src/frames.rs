//! Streams of frames, in reads of any size.

use bytes::BytesMut;
use derp_proto::{
    ClientFrame, ClientSide, DecodeError, FrameDecoder, FrameType, HEADER_LEN, NodePublic, Scanned,
    Scanner, ServerFrame, ServerSide, Side,
};

/// What a server reads from a client that has logged in.
///
/// The first two bytes are the sizes of the reads, in turn, less one; the rest is the stream.
pub fn client_frames(data: &[u8]) {
    let Some((read_sizes, wire)) = data.split_first_chunk() else {
        return;
    };
    for (ty, body) in decoded_alike::<ClientSide>(*read_sizes, wire) {
        let Ok(frame) = ClientFrame::parse(ty, body) else {
            continue;
        };
        let mut encoded = Vec::new();
        frame.encode(&mut encoded);
        assert_eq!(encoded.len(), frame.encoded_len());
        assert_eq!(ClientFrame::parse(ty, &encoded[HEADER_LEN..]), Ok(frame));
        if let ClientFrame::SendPacket { dst, .. } = frame {
            key_in_words(dst);
        }
    }
}

/// What a client reads from a server that has admitted it.
///
/// The first two bytes are the sizes of the reads, in turn, less one; the rest is the stream.
pub fn server_frames(data: &[u8]) {
    let Some((read_sizes, wire)) = data.split_first_chunk() else {
        return;
    };
    for (ty, body) in decoded_alike::<ServerSide>(*read_sizes, wire) {
        let Ok(frame) = ServerFrame::parse(ty, body) else {
            continue;
        };
        let mut encoded = Vec::new();
        frame.encode(&mut encoded);
        assert_eq!(encoded.len(), frame.encoded_len());
        assert_eq!(ServerFrame::parse(ty, &encoded[HEADER_LEN..]), Ok(frame));
    }
}

/// A key in the texts that logs and files have is the same key.
fn key_in_words(key: NodePublic) {
    assert_eq!(NodePublic::from_hex(&key.to_hex()), Ok(key));
    assert_eq!(key.to_string().parse(), Ok(key));
    let short = key.short();
    assert_eq!(short.len(), if key.is_zero() { 0 } else { 5 });
    assert_eq!(format!("{key:?}"), format!("[{short}]"));
}

/// Types and bodies.
type Frames<'a> = Vec<(FrameType, &'a [u8])>;

/// The frames of `wire`, with empty bodies where they are skipped.
///
/// The scanner finds the same in the whole of it as the owned decoder in reads of these sizes,
/// and neither holds memory for what has not arrived.
fn decoded_alike<S: Side>(read_sizes: [u8; 2], wire: &[u8]) -> Frames<'_> {
    let (frames, end) = scan_whole::<S>(wire);

    let (mut decoder, mut buf) = (FrameDecoder::<S>::new(), BytesMut::new());
    let (mut expected, mut rest, mut received) = (frames.iter(), wire, 0);
    for size in read_sizes.into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (read, later) = rest.split_at(rest.len().min(usize::from(size) + 1));
        rest = later;
        received += read.len();
        buf.extend_from_slice(read);
        loop {
            let decoded = decoder.decode(&mut buf);
            assert!(buf.capacity() <= 2 * received + 8192);
            match decoded {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert_eq!(expected.next(), Some(&(frame.ty, &frame.body[..])));
                }
                Err(error) => {
                    assert_eq!((expected.next(), Err(error)), (None, end));
                    return frames;
                }
            }
        }
    }
    assert_eq!((expected.next(), Ok(())), (None, end));
    for (ty, _) in &frames {
        type_in_words(*ty);
    }
    frames
}

/// A type in the text that logs have is told by its name, or else by its number.
fn type_in_words(ty: FrameType) {
    let words = format!("{ty:?}");
    let number = format!("Unknown({:#04x})", ty.0);
    assert!(words == number || words.bytes().all(|byte| byte.is_ascii_alphabetic()));
}

/// The whole frames of `wire`, and the error that they end with, if any.
fn scan_whole<S: Side>(wire: &[u8]) -> (Frames<'_>, Result<(), DecodeError>) {
    let (mut scanner, mut frames, mut rest) = (Scanner::<S>::new(), Vec::new(), wire);
    loop {
        rest = match scanner.scan(rest) {
            Ok(Scanned::Frame { ty, body }) => {
                let (frame, later) = rest.split_at(body.end);
                frames.push((ty, &frame[body]));
                later
            }
            Ok(Scanned::Skipped { ty, end, .. }) => {
                if !scanner.is_skipping() {
                    frames.push((ty, &[]));
                }
                &rest[end..]
            }
            Ok(Scanned::Skipping { .. }) => {
                unreachable!("a body that is skipped takes all that is there at once")
            }
            Ok(Scanned::Partial { .. }) => return (frames, Ok(())),
            Err(error) => return (frames, Err(error)),
        };
    }
}
