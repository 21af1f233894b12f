//! What the same load costs etcd alone, spoken to as an API server speaks to it: writes are transactions that look at the
//! object as it was. Values are as long as stored pods.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use super::{
    super::{
        etcd::{Etcd, Message, put},
        pods::CONCURRENCY,
    },
    load::{CHANGES, LISTS, OBJECTS, WATCHERS},
};

/// The operations of a round, in order.
pub const OPERATIONS: [&str; 5] = ["create", "get", "list, per object", "update", "delete"];
/// About how long the load's pods are in the store.
const VALUE_BYTES: usize = 2048;
/// What stands before a message of gRPC.
const FRAME: usize = 5;
const PREFIX: &str = "/registry/pods/default/";

/// Fields of a `RequestOp`.
const PUT: u8 = 2;
const DELETE: u8 = 3;

/// Every operation on objects that no other round has; microseconds of etcd's CPU for each.
pub async fn round(etcd: &Etcd, round: usize, samples: &mut [Vec<f64>; OPERATIONS.len()]) {
    let key = |number: usize| format!("{PREFIX}pod-{round}-{number}");
    let all = || Message::default().bytes(1, PREFIX.as_bytes()).bytes(2, b"/registry/pods/default0").framed();
    let get = |number: usize| Message::default().bytes(1, key(number).as_bytes()).framed();
    let delete = |number: usize| Message::default().bytes(1, key(number).as_bytes());
    let created = write(etcd, |number| transaction(&key(number), false, PUT, put(&key(number), &value())));
    samples[0].push(created.await);
    samples[1].push(read(etcd, OBJECTS, OBJECTS, get).await);
    samples[2].push(read(etcd, LISTS, LISTS * OBJECTS, |_| all()).await);
    let updated = write(etcd, |number| transaction(&key(number), true, PUT, put(&key(number), &value())));
    samples[3].push(updated.await);
    samples[4].push(write(etcd, |number| transaction(&key(number), true, DELETE, delete(number))).await);
}

/// The same changes with and without watchers: the difference is what the deliveries cost, in microseconds per event.
pub async fn watch_events(etcd: &Etcd, rounds: usize) -> Vec<f64> {
    let key = format!("{PREFIX}watched");
    let change = || put(&key, &value()).framed();
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let alone = cpu_of(etcd, 1, serially(etcd, &change)).await;
        let mut watchers = Vec::new();
        for number in 0..WATCHERS {
            let watch = Message::default().message(1, Message::default().bytes(1, key.as_bytes())).framed();
            let mut watched =
                Watched { pieces: Box::pin(etcd.stream(number, "Watch/Watch", watch).await), left: Vec::new() };
            assert_eq!(watched.events().await, 0, "what comes first says that the watch was made");
            watchers.push(tokio::spawn(async move {
                let mut seen = 0;
                while seen < CHANGES {
                    seen += watched.events().await;
                }
            }));
        }
        let watched = cpu_of(etcd, 1, async {
            serially(etcd, &change).await;
            for watcher in watchers {
                watcher.await.expect("every watcher saw every change");
            }
        });
        samples.push((watched.await - alone) / (WATCHERS * CHANGES) as f64);
    }
    samples
}

async fn serially(etcd: &Etcd, change: &impl Fn() -> Bytes) {
    for _ in 0..CHANGES {
        etcd.call(0, "KV/Put", change()).await;
    }
}

async fn read(etcd: &Etcd, calls: usize, per: usize, make: impl Fn(usize) -> Bytes) -> f64 {
    cpu_of(etcd, per, many(calls, |number| etcd.call(number, "KV/Range", make(number)))).await
}

async fn write(etcd: &Etcd, make: impl Fn(usize) -> Bytes) -> f64 {
    let send = |number: usize| {
        let request = make(number);
        async move {
            let answer = etcd.call(number, "KV/Txn", request).await;
            let succeeded = fields(&answer).any(|(field, _)| field == 2);
            assert!(succeeded, "the object was as it was expected to be");
        }
    };
    cpu_of(etcd, OBJECTS, many(OBJECTS, send)).await
}

async fn many<F: Future>(calls: usize, call: impl Fn(usize) -> F) {
    stream::iter((0..calls).map(call)).buffer_unordered(CONCURRENCY).for_each(|_| async {}).await;
}

async fn cpu_of(etcd: &Etcd, operations: usize, work: impl Future<Output = ()>) -> f64 {
    let before = etcd.cpu();
    work.await;
    (etcd.cpu() - before).as_secs_f64() * 1e6 / operations as f64
}

/// `TxnRequest`: one operation, if the key is there, or is not there.
fn transaction(key: &str, is_there: bool, field: u8, operation: Message) -> Bytes {
    // The version of a key counts its changes since it was made: compared with 0, which is not written.
    let compare = if is_there { Message::default().number(1, 1) } else { Message::default() };
    let compare = compare.bytes(3, key.as_bytes());
    Message::default().message(1, compare).message(2, Message::default().message(field, operation)).framed()
}

fn value() -> Vec<u8> {
    vec![b'x'; VALUE_BYTES]
}

/// A watch that is being read.
struct Watched {
    pieces: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    left: Vec<u8>,
}

impl Watched {
    /// How many events the next message has.
    async fn events(&mut self) -> usize {
        const EVENTS: usize = 11;
        loop {
            if let Some((head, rest)) = self.left.split_at_checked(FRAME) {
                let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes")) as usize;
                if let Some(message) = rest.get(..length) {
                    let events = fields(message).filter(|(field, _)| *field == EVENTS).count();
                    self.left.drain(..FRAME + length);
                    return events;
                }
            }
            self.left.extend(self.pieces.next().await.expect("the watch goes on"));
        }
    }
}

/// The fields of a message: their numbers, and numbers as they are or the lengths of others.
fn fields(message: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let tag = varint(&mut rest)?;
        let value = varint(&mut rest)?;
        if tag & 7 == 2 {
            rest = rest.get(value..)?;
        }
        Some((tag >> 3, value))
    })
}

fn varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
