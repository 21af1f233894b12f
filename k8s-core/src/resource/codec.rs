//! Typed objects from JSON and to documents, compiled once for the kinds that everyone uses.
//!
//! What a generic function does to a type is compiled anew in every crate that calls it; for a Pod that is half a megabyte of
//! program and many seconds of building each time. The functions here are not generic where the type is known.

use std::any::{Any, TypeId};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::api::{
        apps::v1::{Deployment, ReplicaSet},
        coordination::v1::Lease,
        core::v1::{ConfigMap, Endpoints, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
    },
    doc::{Doc, EncodeError},
};

macro_rules! known_kinds {
    ($($kind:ident)*) => {
        /// Reads JSON.
        pub(super) fn from_json<K: DeserializeOwned + 'static>(json: &[u8]) -> serde_json::Result<K> {
            $(if TypeId::of::<K>() == TypeId::of::<$kind>() {
                #[inline(never)]
                fn known(json: &[u8]) -> serde_json::Result<$kind> {
                    serde_json::from_slice(json)
                }
                return known(json).map(same);
            })*
            serde_json::from_slice(json)
        }

        /// Makes a document.
        pub(super) fn to_doc<K: Serialize + 'static>(value: &K) -> Result<Doc, EncodeError> {
            $(if let Some(value) = (value as &dyn Any).downcast_ref::<$kind>() {
                #[inline(never)]
                fn known(value: &$kind) -> Result<Doc, EncodeError> {
                    Doc::from_serialize(value)
                }
                return known(value);
            })*
            Doc::from_serialize(value)
        }
    };
}

known_kinds! {
    ConfigMap Deployment EndpointSlice Endpoints Event Lease Namespace Node Pod ReplicaSet Secret Service ServiceAccount
}

/// A value as the type that it is.
fn same<A: 'static, B: 'static>(value: A) -> B {
    let mut slot = Some(value);
    let found = (&mut slot as &mut dyn Any).downcast_mut::<Option<B>>().and_then(Option::take);
    // Invariant: the caller has compared the types.
    found.expect("two names of one type")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::api::batch::v1::Job;

    #[test]
    fn known_and_other_kinds_are_read_and_written_alike() {
        let json = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c"}]}}"#;
        let pod: Pod = from_json(json).unwrap();
        assert_eq!(pod, serde_json::from_slice(json).unwrap());
        assert_eq!(to_doc(&pod).unwrap(), Doc::from_serialize(&pod).unwrap());
        assert!(from_json::<Pod>(b"{").is_err());
        let job: Job = from_json(br#"{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j"}}"#).unwrap();
        assert_eq!(job.metadata.name.as_deref(), Some("j"));
        assert_eq!(to_doc(&job).unwrap(), Doc::from_serialize(&job).unwrap());
    }
}
