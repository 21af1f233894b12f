//! A commit as one etcd transaction: guards become compares, and where one fails, reads say why.

use std::{collections::BTreeSet, sync::Arc};

use etcd_client::{Compare, CompareOp, DeleteOptions, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

use super::{Shared, keyspace, keyspace::Keyspace, lease};
use crate::{
    Change, ChangeEvent, Committed, Entry, Guard, MAX_TRANSACTION_BYTES, Op, Revision, StoreError, Transaction,
};

pub(super) async fn commit(shared: &Shared, transaction: Transaction) -> Result<Committed, StoreError> {
    check_shape(&transaction)?;
    let request = request(&shared.keyspace, &transaction);
    let sent = shared.connection.write(|mut kv| {
        let request = request.clone();
        async move { kv.txn(request).await }
    });
    let response = match sent.await {
        Ok(response) => response,
        Err(error) => return Err(explained(shared, error, &transaction).await),
    };
    let revision = shared.note(response.header().map_or(0, etcd_client::ResponseHeader::revision));
    if !response.succeeded() {
        return Err(conflict(&shared.keyspace, &transaction.guards, &response));
    }
    let events = events(&shared.keyspace, transaction.ops, &response, revision);
    let change = (!events.is_empty()).then(|| Arc::new(Change { revision, events }));
    Ok(Committed { revision, change })
}

fn check_shape(transaction: &Transaction) -> Result<(), StoreError> {
    let bytes = transaction.size();
    if bytes > MAX_TRANSACTION_BYTES {
        return Err(StoreError::TooLarge { bytes, limit: MAX_TRANSACTION_BYTES });
    }
    let mut keys = BTreeSet::new();
    match transaction.ops.iter().find(|op| op.key().is_empty() || !keys.insert(op.key())) {
        Some(op) if op.key().is_empty() => Err(StoreError::Invalid { reason: "etcd takes no empty key".into() }),
        Some(op) => {
            Err(StoreError::Invalid { reason: format!("the key {} appears in more than one operation", op.key()) })
        }
        None => Ok(()),
    }
}

fn request(keyspace: &Keyspace, transaction: &Transaction) -> Txn {
    let compares: Vec<_> = transaction.guards.iter().map(|guard| compare(keyspace, guard)).collect();
    let mut ops: Vec<_> = transaction.ops.iter().map(|op| operation(keyspace, op)).collect();
    if ops.is_empty() {
        // A transaction without a read is answered from a member's own state, which may be old.
        ops.push(TxnOp::get(vec![0], None));
    }
    let reads: Vec<_> = transaction.guards.iter().map(|guard| TxnOp::get(keyspace.name(guard.key()), None)).collect();
    Txn::new().when(compares).and_then(ops).or_else(reads)
}

fn compare(keyspace: &Keyspace, guard: &Guard) -> Compare {
    let name = keyspace.name(guard.key());
    match guard {
        Guard::Absent(_) => Compare::mod_revision(name, CompareOp::Equal, 0),
        Guard::Exists(_) => Compare::mod_revision(name, CompareOp::Greater, 0),
        // For etcd, what is absent was last put at zero; for the store it was never put.
        Guard::At(_, Revision::ZERO) => Compare::mod_revision(name, CompareOp::Less, 0),
        Guard::At(_, revision) => Compare::mod_revision(name, CompareOp::Equal, keyspace::number(*revision)),
    }
}

fn operation(keyspace: &Keyspace, op: &Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease, .. } => {
            let options = PutOptions::new().with_prev_key().with_lease(lease.map_or(0, lease::id));
            TxnOp::put(keyspace.name(key), value.to_vec(), Some(options))
        }
        Op::Delete { key } => TxnOp::delete(keyspace.name(key), Some(DeleteOptions::new().with_prev_key())),
    }
}

/// The first guard that does not hold, by what was read in the same transaction.
fn conflict(keyspace: &Keyspace, guards: &[Guard], response: &TxnResponse) -> StoreError {
    let found = response.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(mut get) => get.take_kvs().into_iter().find_map(|kv| keyspace.entry(kv)),
        _ => None,
    });
    let failing = guards.iter().zip(found).find(|(guard, found)| !holds(guard, found.as_ref()));
    match failing {
        Some((guard, found)) => StoreError::Conflict { key: guard.key().clone(), found },
        None => StoreError::Unavailable("etcd refused a transaction whose guards hold".into()),
    }
}

fn holds(guard: &Guard, found: Option<&Entry>) -> bool {
    match guard {
        Guard::Absent(_) => found.is_none(),
        Guard::Exists(_) => found.is_some(),
        Guard::At(_, revision) => found.is_some_and(|entry| entry.modified == *revision),
    }
}

fn events(keyspace: &Keyspace, ops: Vec<Op>, response: &TxnResponse, revision: Revision) -> Vec<ChangeEvent> {
    let previous = response.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Put(mut put) => put.take_prev_key().and_then(|kv| keyspace.entry(kv)),
        TxnOpResponse::Delete(mut delete) => delete.take_prev_kvs().into_iter().find_map(|kv| keyspace.entry(kv)),
        _ => None,
    });
    ops.into_iter().zip(previous).filter_map(|(op, previous)| event(op, previous, revision)).collect()
}

fn event(op: Op, previous: Option<Entry>, revision: Revision) -> Option<ChangeEvent> {
    match op {
        Op::Put { key, value, lease, .. } => {
            let created = previous.as_ref().map_or(revision, |entry| entry.created);
            let entry = Entry { key: key.clone(), value, created, modified: revision, lease, attachment: None };
            Some(ChangeEvent { key, entry: Some(entry), previous })
        }
        Op::Delete { key } => previous.map(|previous| ChangeEvent { key, entry: None, previous: Some(previous) }),
    }
}

/// Says what etcd's refusal leaves out.
async fn explained(shared: &Shared, error: StoreError, transaction: &Transaction) -> StoreError {
    match error {
        StoreError::TooLarge { limit, .. } => StoreError::TooLarge { bytes: transaction.size(), limit },
        StoreError::LeaseNotFound { .. } => {
            let named = transaction.ops.iter().filter_map(|op| match op {
                Op::Put { lease, .. } => *lease,
                Op::Delete { .. } => None,
            });
            let named: BTreeSet<_> = named.collect();
            match lease::missing(&shared.connection, &named).await {
                Ok(lease) => StoreError::LeaseNotFound { lease },
                Err(unavailable) => unavailable,
            }
        }
        other => other,
    }
}
