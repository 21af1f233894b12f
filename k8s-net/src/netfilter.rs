//! The kernel's netfilter interface over netlink, as far as `nft` does not offer it. Blocking, and quick.
//!
//! Looks at the network namespace of the calling thread.

use std::{io, net::IpAddr};

use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NlaBuffer, NlasIterator},
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};

// Numbers of linux/netlink.h, linux/netfilter/nfnetlink.h and nf_tables.h.
pub(crate) const MESSAGE_ERROR: u16 = 2;
pub(crate) const MESSAGE_DONE: u16 = 3;
const GET_TABLE: u16 = (10 << 8) | 1;
const GET_ELEMENT: u16 = (10 << 8) | 13;
const GET_GENERATION: u16 = (10 << 8) | 16;
const GENERATION_ID: u16 = 1;
const TABLE_NAME: u16 = 1;
const ELEMENT_TABLE: u16 = 1;
const ELEMENT_SET: u16 = 2;
const ELEMENT_LIST: u16 = 3;
const LIST_ITEM: u16 = 1;
const ITEM_KEY: u16 = 1;
const KEY_BYTES: u16 = 1;
const INET: u8 = 1;
/// Marks an attribute that consists of attributes.
pub(crate) const NESTED: u16 = 1 << 15;
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;

/// A message from the kernel: its kind and its attributes, or its error code when that is its kind.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    body: &'a [u8],
}

/// Opens a socket to the kernel.
pub(crate) fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// How often the packet filter's rules have changed, whoever changed them. Wraps around.
pub(crate) fn generation() -> io::Result<u32> {
    let socket = open()?;
    socket.send(&request(GET_GENERATION, 0, 0, &[]), 0)?;
    let (bytes, _) = socket.recv_from_full()?;
    for message in messages(&bytes)? {
        if let Some(error) = message.error() {
            return Err(error);
        }
        let id = message.attributes().find(|attribute| attribute.kind() == GENERATION_ID);
        if let Some(id) = id.and_then(|id| id.value().try_into().ok()) {
            return Ok(u32::from_be_bytes(id));
        }
    }
    Err(io::Error::other("the kernel did not say which generation of rules it has"))
}

/// Whether there is an `inet` table of this name.
pub(crate) fn has_table(table: &str) -> io::Result<bool> {
    exists(GET_TABLE, &attribute(TABLE_NAME, &text(table)))
}

/// Whether a set of addresses of an `inet` table has this one. No such set has none.
pub(crate) fn has_address(table: &str, set: &str, address: IpAddr) -> io::Result<bool> {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let key = attribute(NESTED | ITEM_KEY, &attribute(KEY_BYTES, &bytes));
    let list = attribute(NESTED | ELEMENT_LIST, &attribute(NESTED | LIST_ITEM, &key));
    let names = [attribute(ELEMENT_TABLE, &text(table)), attribute(ELEMENT_SET, &text(set))].concat();
    exists(GET_ELEMENT, &[names, list].concat())
}

fn exists(kind: u16, attributes: &[u8]) -> io::Result<bool> {
    let socket = open()?;
    socket.send(&request(kind, 0, INET, attributes), 0)?;
    let (bytes, _) = socket.recv_from_full()?;
    match messages(&bytes)?.iter().find_map(Message::error) {
        Some(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Some(error) => Err(error),
        None => Ok(true),
    }
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// The bytes of an attribute, as long as the kernel wants them.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The bytes of a request. `family` is an address family, or 0.
pub(crate) fn request(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = HEADER + FAMILY_HEADER + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend([0; 8]); // Sequence and sender: one request at a time, from whoever the socket is.
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// The messages in a datagram.
pub(crate) fn messages(bytes: &[u8]) -> io::Result<Vec<Message<'_>>> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while rest.len() >= HEADER {
        let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        if length < HEADER || length > rest.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel sent a malformed netlink message"));
        }
        found.push(Message { kind: u16::from_ne_bytes([rest[4], rest[5]]), body: &rest[HEADER..length] });
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    Ok(found)
}

/// The attributes in `bytes`, up to the first that is malformed.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

impl<'a> Message<'a> {
    /// What the message says, unless it is an error.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = NlaBuffer<&'a [u8]>> + use<'a> {
        attributes(self.body.get(FAMILY_HEADER..).unwrap_or_default())
    }

    /// The error, unless the message is an acknowledgement or no error message at all.
    pub(crate) fn error(&self) -> Option<io::Error> {
        let code = i32::from_ne_bytes(self.body.get(..4)?.try_into().ok()?);
        (self.kind == MESSAGE_ERROR && code != 0).then(|| io::Error::from_raw_os_error(-code))
    }
}
