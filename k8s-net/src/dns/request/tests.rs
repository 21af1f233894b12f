//! Messages as bytes.

use hickory_proto::rr::{Name, RData};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn question(edns: Option<u16>) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries = vec![Query::query(name("wEb.Test."), RecordType::A)];
    message.edns = edns.map(|size| {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        edns
    });
    message
}

fn request(message: &Message, carrier: Carrier) -> Request {
    match Incoming::read(&message.to_vec().unwrap(), carrier) {
        Incoming::Question(request) => request,
        other => panic!("{other:?}"),
    }
}

fn addresses(count: u32) -> Vec<Record> {
    let address = |number: u32| RData::A(std::net::Ipv4Addr::from(0x0a01_0000 + number).into());
    (0..count).map(|number| Record::from_rdata(name("web.test."), 5, address(number))).collect()
}

/// Whether the answer was cut, and how many answers and additional records it has.
fn fitted(edns: Option<u16>, carrier: Carrier, answers: u32, additionals: u32) -> (bool, usize, usize) {
    let request = request(&question(edns), carrier);
    let reply = Reply { answers: addresses(answers), additionals: addresses(additionals), ..Reply::default() };
    let bytes = request.encode(reply);
    let limit = match (carrier, edns) {
        (Carrier::Stream, _) => 65_535,
        (_, None) => 512,
        (_, Some(size)) => usize::from(size.clamp(512, 1232)),
    };
    assert!(bytes.len() <= limit, "{} of {limit}", bytes.len());
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!(message.edns.is_some(), edns.is_some(), "the size is answered if it was asked");
    (message.metadata.truncation, message.answers.len(), message.additionals.len())
}

#[test]
fn an_answer_repeats_the_question_as_it_was_written() {
    let request = request(&question(None), Carrier::Datagram);
    let bytes = request.encode(Reply { authoritative: true, answers: addresses(1), ..Reply::default() });
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!(message.metadata.id, 4711);
    assert_eq!(message.queries[0].name().to_ascii(), "wEb.Test.");
    let metadata = message.metadata;
    assert!(metadata.authoritative && metadata.recursion_available && metadata.recursion_desired);
    assert_eq!(message.answers, addresses(1));
}

#[test]
fn answers_fit_into_what_the_client_takes() {
    use Carrier::{Datagram, Stream};
    assert_eq!(fitted(None, Datagram, 20, 0), (false, 20, 0));
    assert_eq!(fitted(None, Datagram, 20, 20), (false, 20, 0), "nobody asked for the additional ones");
    let (cut, count, _) = fitted(None, Datagram, 100, 0);
    assert!(cut && (20..40).contains(&count), "{count}");
    assert_eq!(fitted(Some(1232), Datagram, 60, 0), (false, 60, 0));
    let (cut, count, _) = fitted(Some(65_000), Datagram, 100, 0);
    assert!(cut && (50..100).contains(&count), "never more than passes in one piece: {count}");
    assert!(fitted(Some(0), Datagram, 100, 0).0, "less than 512 counts as 512");
    assert_eq!(fitted(None, Stream, 1000, 0), (false, 1000, 0));
    let (cut, count, _) = fitted(None, Stream, 10_000, 0);
    assert!(cut && (2000..10_000).contains(&count), "{count}");
}

#[test]
fn what_is_no_question_is_refused_or_ignored() {
    let code = |change: fn(&mut Message)| {
        let mut message = question(Some(1232));
        change(&mut message);
        match Incoming::read(&message.to_vec().unwrap(), Carrier::Datagram) {
            Incoming::Refused(bytes) => Some(Message::from_vec(&bytes).unwrap().metadata.response_code),
            Incoming::Question(_) => panic!("must not be taken for a question"),
            Incoming::Noise => None,
        }
    };
    assert_eq!(code(|m| m.metadata.message_type = MessageType::Response), None);
    assert_eq!(code(|m| m.metadata.op_code = OpCode::Notify), Some(ResponseCode::NotImp));
    assert_eq!(code(|m| m.queries.clear()), Some(ResponseCode::FormErr));
    assert_eq!(code(|m| m.queries.push(m.queries[0].clone())), Some(ResponseCode::FormErr));
    assert_eq!(code(|m| m.queries[0].query_class = DNSClass::CH), Some(ResponseCode::Refused));
    assert_eq!(code(|m| m.queries[0].query_type = RecordType::AXFR), Some(ResponseCode::Refused));
    // Its number stands for a bad signature as well.
    let newer = |message: &mut Message| {
        message.edns.iter_mut().for_each(|edns| {
            edns.set_version(1);
        });
    };
    assert_eq!(code(newer), Some(ResponseCode::from(1, 0)));
    let mut broken = question(None).to_vec().unwrap();
    broken.truncate(20);
    let Incoming::Refused(bytes) = Incoming::read(&broken, Carrier::Datagram) else {
        panic!("it can be told who asks")
    };
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!((message.metadata.id, message.metadata.response_code), (4711, ResponseCode::FormErr));
    broken[2] |= 0x80;
    assert!(matches!(Incoming::read(&broken, Carrier::Datagram), Incoming::Noise), "errors answer no answers");
    assert!(matches!(Incoming::read(&broken[..11], Carrier::Datagram), Incoming::Noise));
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader_and_no_answer_is_longer_than_allowed(
        flips in prop::collection::vec((0usize..80, any::<u8>()), 0..8),
        length in 0usize..80,
        noise in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut bytes = question(Some(1400)).to_vec().unwrap();
        for (place, value) in flips {
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
        }
        bytes.truncate(length.max(12));
        for bytes in [bytes, noise] {
            match Incoming::read(&bytes, Carrier::Datagram) {
                Incoming::Question(request) => {
                    let answered = request.encode(Reply { answers: addresses(200), ..Reply::default() });
                    prop_assert!(answered.len() <= 1232);
                    let message = Message::from_vec(&answered).expect("what we write can be read");
                    prop_assert!(message.metadata.truncation);
                }
                Incoming::Refused(answered) => prop_assert!(answered.len() <= bytes.len().max(12) + 11),
                Incoming::Noise => {}
            }
        }
    }
}
