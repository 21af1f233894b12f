//! Questions as they arrive, and answers as they leave: the message format, sizes and truncation. Pure.

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, Record, RecordType},
};

/// The largest datagram that every client takes, in bytes.
const PLAIN_LIMIT: usize = 512;
/// The largest datagram that we send, and ask others to send, in bytes: it passes every usual link in one piece.
pub(super) const DATAGRAM_LIMIT: u16 = 1232;
/// The largest message, in bytes.
const STREAM_LIMIT: usize = 65_535;
/// The length of a message's header, in bytes.
const HEADER: usize = 12;

/// What carries a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    Datagram,
    Stream,
}

/// What has arrived.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A question.
    Question(Request),
    /// Something that is answered with an error.
    Refused(Vec<u8>),
    /// Something that must not be answered, lest two servers talk to each other forever.
    Noise,
}

/// One question, and how its answer must look.
#[derive(Debug, Clone)]
pub(super) struct Request {
    metadata: Metadata,
    /// In the case that it was asked in.
    pub(super) question: Query,
    edns: Option<Edns>,
    limit: usize,
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Reply {
    pub(super) fn error(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

impl Incoming {
    pub(super) fn read(bytes: &[u8], carrier: Carrier) -> Self {
        match Message::from_vec(bytes) {
            Ok(message) if message.metadata.message_type == MessageType::Query => Self::of(message, carrier),
            Ok(_) => Self::Noise,
            Err(_) => malformed(bytes).map_or(Self::Noise, Self::Refused),
        }
    }

    fn of(mut message: Message, carrier: Carrier) -> Self {
        let question = message.queries.pop();
        let limit = match (carrier, &message.edns) {
            (Carrier::Stream, _) => STREAM_LIMIT,
            (Carrier::Datagram, None) => PLAIN_LIMIT,
            (Carrier::Datagram, Some(edns)) => usize::from(edns.max_payload().min(DATAGRAM_LIMIT)).max(PLAIN_LIMIT),
        };
        let op_code = message.metadata.op_code;
        let version = message.edns.as_ref().map_or(0, Edns::version);
        let request = Request {
            metadata: message.metadata,
            question: question.clone().unwrap_or_default(),
            edns: message.edns,
            limit,
        };
        let code = match &question {
            _ if op_code != OpCode::Query => ResponseCode::NotImp,
            None => ResponseCode::FormErr,
            Some(_) if !message.queries.is_empty() => ResponseCode::FormErr,
            _ if version > 0 => ResponseCode::BADVERS,
            Some(question) if !is_served(question) => ResponseCode::Refused,
            Some(_) => return Self::Question(request),
        };
        Self::Refused(request.encode(Reply::error(code)))
    }
}

/// Of the Internet's class, and not for a whole zone.
fn is_served(question: &Query) -> bool {
    let is_transfer = matches!(question.query_type, RecordType::AXFR | RecordType::IXFR);
    matches!(question.query_class, DNSClass::IN | DNSClass::ANY) && !is_transfer
}

/// The answer to what cannot be read, if it can be told who asked.
fn malformed(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = bytes.get(..HEADER)?;
    let is_answer = header[2] & 0x80 != 0;
    if is_answer {
        return None;
    }
    let id = u16::from_be_bytes([header[0], header[1]]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}

impl Request {
    /// Whether signatures are wanted.
    pub(super) fn wants_signatures(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
    }

    /// Whether the resolvers shall not check signatures.
    pub(super) fn trusts(&self) -> bool {
        self.metadata.checking_disabled
    }

    /// The answer's bytes: as much of it as fits, marked as cut off if records are missing that were asked for.
    pub(super) fn encode(&self, reply: Reply) -> Vec<u8> {
        let mut message = Message::new(self.metadata.id, MessageType::Response, self.metadata.op_code);
        message.metadata = Metadata::response_from_request(&self.metadata);
        message.metadata.recursion_available = true;
        message.metadata.authoritative = reply.authoritative;
        message.metadata.response_code = reply.code;
        message.queries = vec![self.question.clone()];
        message.answers = reply.answers;
        message.authorities = reply.authorities;
        message.additionals = reply.additionals;
        message.edns = self.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(DATAGRAM_LIMIT).set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        fit(message, self.limit)
    }
}

/// Encodes a message into `limit` bytes: additional records go first, then authorities, then answers.
fn fit(mut message: Message, limit: usize) -> Vec<u8> {
    loop {
        // Invariant: what was read or made as a message can be written as one; an empty datagram is no answer.
        let bytes = message.to_vec().unwrap_or_default();
        let is_whole = message.metadata.truncation || !cut_by_encoder(&bytes);
        if bytes.len() <= limit && is_whole {
            return bytes;
        }
        if !message.additionals.is_empty() {
            message.additionals.clear();
            continue;
        }
        message.metadata.truncation = true;
        let count = message.answers.len();
        if !message.authorities.is_empty() || count == 0 {
            message.authorities.clear();
            if count == 0 {
                return message.to_vec().unwrap_or_default();
            }
        }
        message.answers.truncate((count * limit / bytes.len().max(1)).min(count - 1));
    }
}

/// Whether the encoder itself left something out, as it does beyond what any message may hold.
fn cut_by_encoder(bytes: &[u8]) -> bool {
    bytes.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

#[cfg(test)]
mod tests;
