//! Where the objects of a cluster are kept.
//!
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod change;
pub mod check;
pub mod contract;
mod core;
mod embedded;
mod engine;
mod entry;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
mod faulty;
mod history;
mod key;
mod lease;
mod memory;
mod plan;
mod rebased;
mod state;
mod store;
mod transaction;
mod watch;

pub use change::{Change, ChangeEvent, WatchItem, WatchStream};
pub use embedded::{Embedded, EmbeddedOptions, REVISIONS_SKIPPED};
pub use entry::{Attachment, Entry};
pub use error::StoreError;
#[cfg(feature = "etcd")]
pub use etcd::{Etcd, EtcdOptions, EtcdTls};
pub use faulty::{Calls, Failure, Faulty};
pub use history::Retention;
pub use key::{Key, LeaseId, Revision};
pub use memory::Memory;
pub use plan::MAX_TRANSACTION_BYTES;
pub use store::{Digest, DiskStatistics, Listing, Page, Statistics, Store};
pub use transaction::{Committed, Guard, Op, Transaction};
