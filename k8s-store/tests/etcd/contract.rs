//! The etcd backend keeps every promise.

use std::sync::Arc;

use k8s_core::env::Env;
use k8s_store::{
    Etcd, EtcdOptions, Store,
    contract::{LeaseTime, Subject},
};

use super::member::Member;

async fn make(env: Env) -> Subject {
    let member = Member::alone();
    let etcd = Etcd::connect(EtcdOptions::new([member.endpoint()]), env).await.expect("etcd answers");
    let head = etcd.head().await.expect("a head");
    // One of the promises is about what a watch yields after the store is gone; the server must outlive it. It ends
    // with this process.
    std::mem::forget(member);
    let mut subject = Subject::new(Arc::new(etcd)).counting_from(head);
    (subject.hands_back_attachments, subject.lease_time) = (false, LeaseTime::Real);
    subject
}

k8s_store::contract!(make);
