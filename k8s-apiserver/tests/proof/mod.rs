//! Watches and mirrors at every layer, judged by the promises of `k8s_store::check`.
//!
//! A *history* is a few writers, many watchers and some informers over one store, under a seed. What each of them saw is
//! compared with what happened, which the store's checker reconstructs from the acknowledged commits. The validators are
//! the store's own, applied to each layer's view of the truth ([`k8s_store::check::Truth::through`]).

#[path = "../../src/server/tests/clock.rs"]
pub mod clock;
pub mod defective;
pub mod hasty;
pub mod history;
pub mod http;
pub mod informed;
pub mod judge;
pub mod lagging;
pub mod scene;
pub mod socket;
pub mod stack;
pub mod wanted;
pub mod watcher;
