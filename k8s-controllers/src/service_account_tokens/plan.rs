//! What is to be done with one Secret.

use std::collections::BTreeMap;

use k8s_core::{
    api::{
        ByteString,
        api::core::v1::{Secret, ServiceAccount},
    },
    token_secret::{ACCOUNT_NAME, ACCOUNT_UID, TYPE},
};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Leave,
    /// The account is gone, or another one has its name now.
    Delete,
    /// These parts are written, if they are not there as they should be.
    Fill {
        /// Whether a token is made.
        token: bool,
        /// What `data` holds from now on beside a new token.
        data: BTreeMap<String, Vec<u8>>,
        /// The account that the Secret is of.
        uid: String,
    },
}

/// What one of such Secrets says of its account: the name, and the uid where it is known already.
pub fn account(secret: &Secret) -> Option<(&str, Option<&str>)> {
    let annotations = secret.metadata.annotations.as_ref()?;
    let said = |key| annotations.get(key).map(String::as_str).filter(|text| !text.is_empty());
    (secret.type_.as_deref() == Some(TYPE)).then_some((said(ACCOUNT_NAME)?, said(ACCOUNT_UID)))
}

/// What is to be done with a Secret whose account is this one, if there is one. `authorities_pem` verify the API server.
///
/// A token that is there is never replaced; an authority that has changed is.
pub fn plan(secret: &Secret, found: Option<&ServiceAccount>, authorities_pem: Option<&str>) -> Plan {
    let Some((_, uid)) = account(secret) else { return Plan::Leave };
    let is_ending = secret.metadata.deletion_timestamp.is_some();
    let same = |account: &&ServiceAccount| uid.is_none() || uid == account.metadata.uid.as_deref();
    let Some(owner) = found.filter(same) else { return if is_ending { Plan::Leave } else { Plan::Delete } };
    let held = |key: &str| secret.data.iter().flatten().find(|(name, _)| *name == key).map(|(_, value)| &value.0[..]);
    let mut data = BTreeMap::new();
    if let Some(pem) = authorities_pem.filter(|pem| !pem.is_empty() && held("ca.crt") != Some(pem.as_bytes())) {
        data.insert("ca.crt".to_owned(), pem.as_bytes().to_vec());
    }
    if held("namespace").is_none_or(<[u8]>::is_empty) {
        let namespace = secret.metadata.namespace.clone().unwrap_or_default();
        data.insert("namespace".into(), namespace.into_bytes());
    }
    let token = held("token").is_none_or(<[u8]>::is_empty);
    if is_ending || (!token && data.is_empty()) {
        return Plan::Leave;
    }
    Plan::Fill { token, data, uid: owner.metadata.uid.clone().unwrap_or_default() }
}

/// Does to a Secret what [`Plan::Fill`] says.
pub fn fill(secret: &mut Secret, token: Option<String>, data: BTreeMap<String, Vec<u8>>, uid: String) {
    let held = secret.data.get_or_insert_default();
    held.extend(data.into_iter().map(|(key, value)| (key, ByteString(value))));
    held.extend(token.map(|token| ("token".to_owned(), ByteString(token.into_bytes()))));
    secret.metadata.annotations.get_or_insert_default().insert(ACCOUNT_UID.into(), uid);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn secret(annotations: Value, data: Value) -> Secret {
        from_value(json!({
            "metadata": {"name": "s", "namespace": "n", "annotations": annotations}, "type": TYPE, "data": data
        }))
        .unwrap()
    }

    fn of(uid: &str) -> ServiceAccount {
        from_value(json!({"metadata": {"name": "a", "namespace": "n", "uid": uid}})).unwrap()
    }

    fn named() -> Value {
        json!({ACCOUNT_NAME: "a"})
    }

    fn bytes(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        let cases = [
            (json!({}), Some("CA"), Some((true, bytes(&[("ca.crt", "CA"), ("namespace", "n")])))),
            (json!({}), None, Some((true, bytes(&[("namespace", "n")])))),
            // T, n, CA.
            (json!({"token": "VA==", "namespace": "bg==", "ca.crt": "Q0E="}), Some("CA"), None),
            (json!({"token": "VA==", "namespace": "bg==", "ca.crt": "Q0E="}), None, None),
            (json!({"token": "VA==", "namespace": "bg=="}), Some("new"), Some((false, bytes(&[("ca.crt", "new")])))),
            (json!({"token": "", "namespace": "bg=="}), None, Some((true, bytes(&[])))),
            // What is there of the namespace is left, whatever it says.
            (json!({"token": "VA==", "namespace": "eA=="}), None, None),
        ];
        for (data, authorities, expected) in cases {
            let expected = expected.map_or(Plan::Leave, |(token, data)| Plan::Fill { token, data, uid: "1".into() });
            assert_eq!(plan(&secret(named(), data.clone()), Some(&of("1")), authorities), expected, "{data}");
        }
    }

    #[test]
    fn it_goes_with_its_account_and_with_no_other() {
        let ours = secret(json!({ACCOUNT_NAME: "a", ACCOUNT_UID: "1"}), json!({}));
        assert_eq!(plan(&ours, None, None), Plan::Delete);
        assert_eq!(plan(&ours, Some(&of("2")), None), Plan::Delete, "another account of that name");
        assert!(matches!(plan(&ours, Some(&of("1")), None), Plan::Fill { .. }));
        assert_eq!(plan(&secret(named(), json!({})), None, None), Plan::Delete);
        let mut other = ours.clone();
        other.type_ = Some("Opaque".into());
        assert_eq!(plan(&other, None, None), Plan::Leave, "only what is of this type");
        assert_eq!(plan(&secret(json!({}), json!({})), None, None), Plan::Leave, "it names nobody");
    }

    #[test]
    fn what_is_ending_is_left_alone() {
        let mut ending = secret(named(), json!({}));
        ending.metadata.deletion_timestamp = from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(plan(&ending, Some(&of("1")), Some("CA")), Plan::Leave);
        assert_eq!(plan(&ending, None, None), Plan::Leave);
    }

    #[test]
    fn a_filled_secret_needs_nothing_more() {
        let mut filled = secret(named(), json!({"extra": "eA=="}));
        let Plan::Fill { token: true, data, uid } = plan(&filled, Some(&of("1")), Some("CA")) else {
            panic!("a token")
        };
        fill(&mut filled, Some("T".into()), data, uid);
        assert_eq!(plan(&filled, Some(&of("1")), Some("CA")), Plan::Leave);
        assert_eq!(account(&filled), Some(("a", Some("1"))));
        assert_eq!(filled.data.unwrap().len(), 4, "and what was there stays");
    }
}
