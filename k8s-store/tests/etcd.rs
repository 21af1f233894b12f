//! The etcd backend over real members of etcd (Debian: etcd-server), each in a folder of its own on free ports.
#![cfg(feature = "etcd")]
#![allow(clippy::disallowed_methods, reason = "etcd runs on the machine's own time")]

mod etcd {
    pub mod member;
    pub mod network;
    pub mod time;
    pub mod trusting;

    mod bounds;
    mod contract;
    mod defects;
    mod faults;
    mod live;
    mod partitions;
    mod tls;
}
