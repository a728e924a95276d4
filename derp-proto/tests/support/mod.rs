//! A frame's trip through the encoder and back.

use derp_proto::{ClientFrame, FrameHeader, FrameType, ServerFrame};

/// Encodes the frame in the promised length, and decodes the same frame.
pub(crate) fn survives_as_client(frame: &ClientFrame<'_>) {
    let mut wire = Vec::new();
    frame.encode(&mut wire);
    assert_eq!(wire.len(), frame.encoded_len(), "{frame:?}");
    let (ty, body) = only_frame(&wire);
    assert_eq!(ClientFrame::parse(ty, body), Ok(*frame));
}

/// Encodes the frame in the promised length, and decodes the same frame.
pub(crate) fn survives_as_server(frame: &ServerFrame<'_>) {
    let mut wire = Vec::new();
    frame.encode(&mut wire);
    assert_eq!(wire.len(), frame.encoded_len(), "{frame:?}");
    let (ty, body) = only_frame(&wire);
    assert_eq!(ServerFrame::parse(ty, body).as_ref(), Ok(frame));
}

/// The frame that `wire` consists of.
fn only_frame(wire: &[u8]) -> (FrameType, &[u8]) {
    let header = FrameHeader::parse(wire).expect("a frame begins with a header");
    assert_eq!(header.len as usize, wire.len() - 5);
    (header.ty, &wire[5..])
}
