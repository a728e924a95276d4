//! Finding frames in a stream of bytes: it may be cut anywhere, and it may be nonsense.
//!
//! The codec has two forms, [`Scanner`] and [`FrameDecoder`]. Both are compared with a third, the
//! plainest there is: [`model`] looks at the whole stream at once and has rules of its own.

mod support;

use std::ops::RangeInclusive;

use bytes::BytesMut;
use derp_proto::{
    ClientFrame, ClientSide, DecodeError, FrameDecoder, FrameHeader, FrameType, Scanned, Scanner,
    ServerFrame, ServerSide, Side,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use support::{survives_as_client, survives_as_server};

proptest! {
    #[test]
    fn what_a_server_decodes_does_not_depend_on_where_reads_end(
        sent in frames::<ClientSide>(),
        reads in read_sizes(),
    ) {
        let decoded = decoded_alike::<ClientSide>(&on_the_wire(&sent), &reads);
        prop_assert_eq!(decoded, received::<ClientSide>(sent));
    }

    #[test]
    fn what_a_client_decodes_does_not_depend_on_where_reads_end(
        sent in frames::<ServerSide>(),
        reads in read_sizes(),
    ) {
        let decoded = decoded_alike::<ServerSide>(&on_the_wire(&sent), &reads);
        prop_assert_eq!(decoded, received::<ServerSide>(sent));
    }

    #[test]
    fn a_damaged_stream_from_a_client_yields_only_what_it_holds(
        sent in frames::<ClientSide>(),
        damage in vec(damage(), 1..5),
        reads in read_sizes(),
    ) {
        let decoded = decoded_alike::<ClientSide>(&damaged(&sent, &damage), &reads);
        for (ty, body) in &decoded.frames {
            if let Ok(frame) = ClientFrame::parse(*ty, body) {
                prop_assert!(body.ends_with(payload_of_client(&frame)));
                survives_as_client(&frame);
            }
        }
    }

    #[test]
    fn a_damaged_stream_from_a_server_yields_only_what_it_holds(
        sent in frames::<ServerSide>(),
        damage in vec(damage(), 1..5),
        reads in read_sizes(),
    ) {
        let decoded = decoded_alike::<ServerSide>(&damaged(&sent, &damage), &reads);
        for (ty, body) in &decoded.frames {
            if let Ok(frame) = ServerFrame::parse(*ty, body) {
                prop_assert!(body.ends_with(payload_of_server(&frame)));
                survives_as_server(&frame);
            }
        }
    }
}

#[test]
fn every_length_of_every_type_is_judged_by_the_header() {
    fn judge<S: Rules>() {
        for ty in (0..=u8::MAX).map(FrameType) {
            let (is_of_use, lengths) = S::rule(ty);
            let (min, max) = (*lengths.start(), *lengths.end());
            for len in [0, min.saturating_sub(1), min, max, max + 1, 0xffff_ffff] {
                let header = FrameHeader {
                    ty,
                    len: u32::try_from(len).expect("these are short"),
                };
                let judged = Scanner::<S>::new().scan(&header.to_bytes());
                let expected = match check::<S>(ty, len) {
                    Err(error) => Err(error),
                    Ok(()) if !is_of_use => Ok(Scanned::Skipped {
                        ty,
                        len: header.len,
                        end: 5,
                    }),
                    Ok(()) if len == 0 => Ok(Scanned::Frame { ty, body: 5..5 }),
                    Ok(()) => Ok(Scanned::Partial {
                        header: Some(header),
                        missing: len,
                    }),
                };
                assert_eq!(
                    judged,
                    expected,
                    "{ty:?} of {len} bytes, {}",
                    std::any::type_name::<S>()
                );
            }
        }
    }
    judge::<ClientSide>();
    judge::<ServerSide>();
}

#[test]
fn the_longest_frames_arrive_whole() {
    fn arrives<S: Rules>(types: &[u8]) {
        let longest = |ty: &u8| {
            let len = *S::rule(FrameType(*ty)).1.end();
            (
                FrameType(*ty),
                (0..len).map(|n| n.to_le_bytes()[0]).collect(),
            )
        };
        let sent: Vec<_> = types.iter().map(longest).collect();
        let decoded = decoded_alike::<S>(&on_the_wire(&sent), &[4096, 1, 65_536]);
        assert_eq!(decoded, received::<S>(sent));
    }
    arrives::<ClientSide>(&[0x04, 0x77, 0x0a, 0x12]);
    arrives::<ServerSide>(&[0x05, 0x77, 0x14, 0x06]);
}

/// A type and a body.
type Frame = (FrameType, Vec<u8>);

/// What became of a stream: the frames up to its end, or up to the first that breaks the rules.
#[derive(Debug, PartialEq)]
struct Decoded {
    /// With an empty body where the frame was skipped.
    frames: Vec<Frame>,
    error: Option<DecodeError>,
}

/// The rules of one direction, written down from the protocol a second time.
trait Rules: Side {
    /// Whether the body is of use, and how long it may be.
    fn rule(ty: FrameType) -> (bool, RangeInclusive<usize>);
}

impl Rules for ClientSide {
    fn rule(ty: FrameType) -> (bool, RangeInclusive<usize>) {
        match ty.0 {
            0x04 => (true, 32..=65_568),
            0x07 => (true, 1..=1),
            0x0a => (true, 64..=65_600),
            0x10 => (true, 0..=0),
            0x11 => (true, 32..=32),
            0x12 => (true, 8..=1000),
            _ => (false, 0..=1_048_576),
        }
    }
}

impl Rules for ServerSide {
    fn rule(ty: FrameType) -> (bool, RangeInclusive<usize>) {
        let is_of_use = matches!(ty.0, 0x01 | 0x03 | 0x05 | 0x06 | 0x08 | 0x09 | 0x12..=0x15);
        (is_of_use, 0..=1_048_576)
    }
}

fn check<S: Rules>(ty: FrameType, len: usize) -> Result<(), DecodeError> {
    let (_, lengths) = S::rule(ty);
    let (min, max) = lengths.into_inner();
    if len < min {
        return Err(DecodeError::TooShort { ty, len, min });
    }
    if len > max {
        return Err(DecodeError::TooLong { ty, len, max });
    }
    Ok(())
}

/// Decodes with both forms of the codec, which must agree with the model and so with each other.
fn decoded_alike<S: Rules>(wire: &[u8], read_sizes: &[usize]) -> Decoded {
    let expected = model::<S>(wire);
    assert_eq!(
        by_scanner::<S>(reads(wire, read_sizes)),
        expected,
        "the scanner"
    );
    assert_eq!(
        by_decoder::<S>(reads(wire, read_sizes)),
        expected,
        "the decoder"
    );
    expected
}

fn model<S: Rules>(mut wire: &[u8]) -> Decoded {
    let mut frames = Vec::new();
    while let Some((header, rest)) = wire.split_first_chunk::<5>() {
        let ty = FrameType(header[0]);
        let len = header[1..]
            .iter()
            .fold(0, |len, byte| len << 8 | usize::from(*byte));
        if let Err(error) = check::<S>(ty, len) {
            return Decoded {
                frames,
                error: Some(error),
            };
        }
        let Some((body, rest)) = rest.split_at_checked(len) else {
            break;
        };
        let (is_of_use, _) = S::rule(ty);
        frames.push((ty, if is_of_use { body.to_vec() } else { Vec::new() }));
        wire = rest;
    }
    Decoded {
        frames,
        error: None,
    }
}

fn by_scanner<'a, S: Rules>(reads: impl Iterator<Item = &'a [u8]>) -> Decoded {
    let (mut scanner, mut held) = (Scanner::<S>::new(), Vec::new());
    let (mut frames, mut skipped) = (Vec::new(), None);
    for read in reads {
        held.extend_from_slice(read);
        loop {
            let end = match scanner.scan(&held) {
                Err(error) => {
                    return Decoded {
                        frames,
                        error: Some(error),
                    };
                }
                Ok(Scanned::Frame { ty, body }) => {
                    assert_eq!(body.start, 5, "a body follows its header");
                    frames.push((ty, held[body.clone()].to_vec()));
                    body.end
                }
                Ok(Scanned::Skipped { ty, len, end }) => {
                    let is_whole = end == 5 + len as usize;
                    assert_eq!(scanner.is_skipping(), !is_whole);
                    skipped = Some(ty);
                    end
                }
                Ok(Scanned::Skipping { end }) => end,
                Ok(Scanned::Partial { header, missing }) => {
                    let whole = header.map_or(5, |header| 5 + header.len as usize);
                    let due = if skipped.is_some() {
                        1
                    } else {
                        whole - held.len()
                    };
                    assert_eq!(missing, due, "so many bytes are missing");
                    break;
                }
            };
            held.drain(..end);
            if !scanner.is_skipping()
                && let Some(ty) = skipped.take()
            {
                frames.push((ty, Vec::new()));
            }
        }
    }
    Decoded {
        frames,
        error: None,
    }
}

fn by_decoder<'a, S: Rules>(reads: impl Iterator<Item = &'a [u8]>) -> Decoded {
    let (mut decoder, mut buf) = (FrameDecoder::<S>::new(), BytesMut::new());
    let mut frames = Vec::new();
    for read in reads {
        buf.extend_from_slice(read);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(frame)) => frames.push((frame.ty, frame.body.to_vec())),
                Ok(None) => break,
                Err(error) => {
                    return Decoded {
                        frames,
                        error: Some(error),
                    };
                }
            }
        }
    }
    Decoded {
        frames,
        error: None,
    }
}

/// Cuts `wire` into reads of these sizes, over and over.
fn reads<'a>(mut wire: &'a [u8], sizes: &[usize]) -> impl Iterator<Item = &'a [u8]> {
    sizes.iter().cycle().map_while(move |&size| {
        let (read, rest) = wire.split_at(size.min(wire.len()));
        wire = rest;
        (!read.is_empty()).then_some(read)
    })
}

/// Half of the reads end within a header or just before or behind a last byte.
fn read_sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..=4_usize, 1..=700_usize], 1..16)
}

/// Legal frames, among them many that our own encoder cannot make: of types that nobody knows,
/// of types that the other side sends, and with more in their bodies than this version knows.
fn frames<S: Rules>() -> impl Strategy<Value = Vec<Frame>> {
    let known = prop_oneof![0x01..=0x0a_u8, 0x10..=0x15_u8];
    let ty = prop_oneof![3 => known, 1 => any::<u8>()].prop_map(FrameType);
    let frame = ty.prop_flat_map(|ty| {
        let (min, max) = S::rule(ty).1.into_inner();
        let shorter = vec(any::<u8>(), min..=max.min(min + 8));
        let longer = vec(any::<u8>(), min..=max.min(min + 300));
        (Just(ty), prop_oneof![shorter, longer])
    });
    vec(frame, 0..8)
}

fn on_the_wire(frames: &[Frame]) -> Vec<u8> {
    let frame_bytes = |(ty, body): &Frame| {
        let len = u32::try_from(body.len()).expect("these are short");
        [&FrameHeader { ty: *ty, len }.to_bytes()[..], body].concat()
    };
    frames.iter().flat_map(frame_bytes).collect()
}

/// What is left of frames for a side that has no use for some of them.
fn received<S: Rules>(mut frames: Vec<Frame>) -> Decoded {
    for (ty, body) in &mut frames {
        if !S::rule(*ty).0 {
            body.clear();
        }
    }
    Decoded {
        frames,
        error: None,
    }
}

#[derive(Debug)]
enum Damage {
    Flip(Index, u8),
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at().prop_map(Damage::Remove),
        at().prop_map(Damage::Truncate),
    ]
}

fn damaged(frames: &[Frame], damage: &[Damage]) -> Vec<u8> {
    let mut wire = on_the_wire(frames);
    for damage in damage {
        if wire.is_empty() {
            break;
        }
        let len = wire.len();
        match damage {
            Damage::Flip(at, bit) => wire[at.index(len)] ^= 1 << bit,
            Damage::Replace(at, byte) => wire[at.index(len)] = *byte,
            Damage::Insert(at, byte) => wire.insert(at.index(len), *byte),
            Damage::Remove(at) => drop(wire.remove(at.index(len))),
            Damage::Truncate(at) => wire.truncate(at.index(len)),
        }
    }
    wire
}

fn payload_of_client<'a>(frame: &ClientFrame<'a>) -> &'a [u8] {
    match frame {
        ClientFrame::ClientInfo {
            sealed: payload, ..
        }
        | ClientFrame::SendPacket {
            packet: payload, ..
        }
        | ClientFrame::ForwardPacket {
            packet: payload, ..
        } => payload,
        _ => &[],
    }
}

fn payload_of_server<'a>(frame: &ServerFrame<'a>) -> &'a [u8] {
    match frame {
        ServerFrame::ServerInfo(payload)
        | ServerFrame::RecvPacket {
            packet: payload, ..
        } => payload,
        _ => &[],
    }
}
