//! Compaction, and the loop that does it for all servers over one etcd.

use std::{sync::Weak, time::Duration};

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse};
use k8s_core::env::Env;

use super::{Shared, keyspace};
use crate::{Revision, StoreError};

/// Where the servers agree on who compacts: the key that every API server over etcd uses, so that they take turns also
/// with others. It is written once per interval and takes a revision.
const TURN: &str = "compact_rev_key";

pub(super) async fn compact(shared: &Shared, revision: Revision) -> Result<(), StoreError> {
    if revision == Revision::ZERO {
        return Ok(());
    }
    let number = keyspace::number(revision);
    match shared.connection.write(|mut kv| async move { kv.compact(number, None).await }).await {
        Ok(_) | Err(StoreError::Compacted { .. }) => Ok(()),
        Err(error) => Err(shared.exact(error, revision).await),
    }
}

/// Compacts, every `interval`, what was the head an interval ago, until the store is gone.
///
/// The key's version counts the turns. Who finds it as it was after the last turn takes the next; the others learn its
/// outcome and wait.
pub(super) async fn run(shared: Weak<Shared>, env: Env, interval: Duration) {
    let mut turn = Turn { version: 0, head: Revision::ZERO };
    loop {
        env.sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        match take(&shared, &turn).await {
            Ok(next) => turn = next,
            Err(error) => tracing::warn!(%error, "history was not compacted; trying again in {interval:?}"),
        }
    }
}

struct Turn {
    version: i64,
    head: Revision,
}

async fn take(shared: &Shared, last: &Turn) -> Result<Turn, StoreError> {
    let ours = Compare::version(TURN, CompareOp::Equal, last.version);
    let put = TxnOp::put(TURN, last.head.to_string(), None);
    let look = TxnOp::get(TURN, Some(GetOptions::new()));
    let transaction = Txn::new().when([ours]).and_then([put]).or_else([look]);
    let answer = shared.connection.once(shared.connection.kv().txn(transaction)).await?;
    let head = keyspace::revision(answer.header().map_or(0, etcd_client::ResponseHeader::revision));
    if answer.succeeded() {
        compact(shared, last.head).await?;
        return Ok(Turn { version: last.version + 1, head });
    }
    let version = answer.op_responses().into_iter().find_map(|response| match response {
        TxnOpResponse::Get(found) => found.kvs().first().map(etcd_client::KeyValue::version),
        _ => None,
    });
    Ok(Turn { version: version.unwrap_or(0), head })
}
