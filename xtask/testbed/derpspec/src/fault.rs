//! Faults that a server could have, put between the server and a case.
//!
//! A case that no fault turns red checks nothing. Each case therefore names faults that it must
//! notice, and `--self-test` has it run with each of them: what the server sent arrives changed,
//! as it would from a server with that fault. Logins and other preparations go through the same
//! mill, so faults are as narrow as their case allows.

/// What goes wrong between the server and a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Frames of this type do not come.
    LoseFrame(u8),
    /// Of frames of this type, a connection gets the first only.
    LoseLater(u8),
    /// Frames of this type come twice.
    RepeatFrame(u8),
    /// In frames of this type, the byte at this place is another one.
    FlipFrame(u8, usize),
    /// Frames of this type have a byte more.
    LengthenFrame(u8),
    /// Frames of this type have a byte less.
    ShortenFrame(u8),
    /// The answer to a ping is preceded by a frame of this type, and so is silence ended by one.
    ForgeFrame(u8),
    /// Instead of a frame of this type, the connection ends.
    EndAt(u8),
    /// The server does not end connections.
    NoEnd,
    /// In the heads of responses, the first text is replaced by the second.
    Head(&'static str, &'static str),
    /// The same in the bodies of responses, wherever it is.
    Body(&'static str, &'static str),
    /// The response to a request does not come.
    NoResponse,
    /// WebSocket frames with this opcode do not come.
    LoseMessage(u8),
    /// In WebSocket frames with this opcode, the payload's byte at this place is another one.
    FlipMessage(u8, usize),
    /// WebSocket frames have this opcode instead of that one.
    RetypeMessage(u8, u8),
    /// WebSocket frames have this bit set in their first two bytes.
    MessageBit(u16),
    /// In the last certificate of a chain, the first bytes are replaced where they come last by the
    /// second, which are as many.
    Certificate(&'static [u8], &'static [u8]),
    /// The last certificate of a chain is missing.
    NoLastCertificate,
    /// A chain comes in the wrong order.
    ReverseChain,
    /// Every second connection is shown another last certificate.
    OtherCertificates,
    /// TLS is of another version.
    OtherVersion,
    /// TLS agrees on this protocol inside.
    Alpn(&'static str),
    /// TLS sessions can or cannot be resumed, the other way round.
    Tickets,
    /// TLS handshakes fail.
    NoTls,
    /// TLS handshakes that fail do not: they hang.
    NoRefusal,
    /// Refused TLS handshakes end with this alert.
    Alert(u8),
    /// STUN datagrams do not come.
    LoseDatagram,
    /// In STUN datagrams, the byte at this place is another one.
    FlipDatagram(usize),
    /// STUN datagrams have four bytes more.
    LengthenDatagram,
    /// Whatever is asked by STUN is answered.
    AnswerDatagram,
}
