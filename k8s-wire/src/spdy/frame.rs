//! Frames: eight bytes of head, then the payload.

/// The largest payload that is taken.
pub(super) const MAX_FRAME_BYTES: usize = 1024 * 1024;

const VERSION: u16 = 3;
const FIN: u8 = 1;

/// What a head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// A piece of a stream.
    Data { stream: u32, last: bool },
    /// Anything about streams or the session.
    Control { kind: Control, last: bool },
}

/// The control frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    SynStream,
    SynReply,
    RstStream,
    Ping,
    GoAway,
    Headers,
    /// Settings, windows and credentials: nothing here depends on them.
    Other,
}

impl Control {
    fn number(self) -> u16 {
        match self {
            Self::SynStream => 1,
            Self::SynReply => 2,
            Self::RstStream => 3,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::Headers => 8,
            Self::Other => 4,
        }
    }

    fn of(number: u16) -> Self {
        let known = [Self::SynStream, Self::SynReply, Self::RstStream, Self::Ping, Self::GoAway, Self::Headers];
        known.into_iter().find(|kind| kind.number() == number).unwrap_or(Self::Other)
    }
}

/// Reads a head: what comes, and how many bytes of it.
pub(super) fn read_head(head: &[u8; 8]) -> (Frame, usize) {
    let [a, b, c, d, flags, lengths @ ..] = *head;
    let length = u32::from_be_bytes([0, lengths[0], lengths[1], lengths[2]]) as usize;
    let last = flags & FIN != 0;
    let frame = if a & 0x80 != 0 {
        Frame::Control { kind: Control::of(u16::from_be_bytes([c, d])), last }
    } else {
        Frame::Data { stream: u32::from_be_bytes([a, b, c, d]), last }
    };
    (frame, length)
}

/// The first number of a payload, mostly a stream's.
pub(super) fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff)
}

/// A control frame.
pub(super) fn control(kind: Control, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(8 + payload.len());
    frame.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    frame.extend_from_slice(&kind.number().to_be_bytes());
    finish(frame, flags, payload)
}

/// A data frame.
pub(super) fn data(stream: u32, payload: &[u8], last: bool) -> Vec<u8> {
    let mut frame = Vec::with_capacity(8 + payload.len());
    frame.extend_from_slice(&stream.to_be_bytes());
    finish(frame, u8::from(last) * FIN, payload)
}

fn finish(mut frame: Vec<u8>, flags: u8, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() <= MAX_FRAME_BYTES, "the callers cut what they send");
    frame.push(flags);
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    frame.extend_from_slice(payload);
    frame
}
