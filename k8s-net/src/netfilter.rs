//! The kernel's netfilter interface over netlink, as far as `nft` does not offer it. Blocking, and quick.
//!
//! Looks at the network namespace of the calling thread.

use std::io;

use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NlaBuffer, NlasIterator},
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};

// Numbers of linux/netlink.h, linux/netfilter/nfnetlink.h and nf_tables.h.
pub(crate) const MESSAGE_ERROR: u16 = 2;
pub(crate) const MESSAGE_DONE: u16 = 3;
const GET_GENERATION: u16 = (10 << 8) | 16;
const GENERATION_ID: u16 = 1;
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
