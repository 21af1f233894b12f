//! The etcd backend over real members of etcd (Debian: etcd-server), each in a folder of its own on free ports.
#![cfg(feature = "etcd")]
#![allow(clippy::disallowed_methods, reason = "etcd runs on the machine's own time")]

mod etcd {
    pub mod member;
    pub mod time;

    mod bounds;
    mod contract;
    mod faults;
    mod live;
    mod tls;
}
