//! Groups that a provider keeps elsewhere: OpenID Connect's distributed claims.
//!
//! A token names an endpoint in `_claim_names` and `_claim_sources`; there a second token is fetched, whose issuer's keys
//! are found by discovery, and which is for the same audiences. As upstream, only the groups are looked for, and claims
//! that come along in the token itself (aggregated ones) are passed over.

use std::sync::Arc;

use k8s_core::status::ApiResult;
use parking_lot::Mutex;
use serde_json::Value;

use super::{Claim, Oidc, Source, keys::Keys, refused, well_known};
use crate::auth::bearer::unverified;

/// How many issuers' keys are kept; those of the issuer that was met first go for a new one's.
const MAX_ISSUERS: usize = 16;

/// The keys of those who issue distributed claims.
#[derive(Default)]
pub(super) struct Issuers(Mutex<Vec<(String, Arc<Keys>)>>);

impl Issuers {
    fn keys(&self, oidc: &Oidc, issuer: &str) -> Arc<Keys> {
        let mut known = self.0.lock();
        if let Some((_, keys)) = known.iter().find(|(known, _)| known == issuer) {
            return keys.clone();
        }
        let keys = Arc::new(Keys::new(oidc.env.clone(), issuer.into(), well_known(issuer), oidc.documents.clone()));
        if known.len() == MAX_ISSUERS {
            known.remove(0);
        }
        known.push((issuer.into(), keys.clone()));
        keys
    }
}

impl Oidc {
    /// Puts the groups into the claims of a verified token, if they are kept elsewhere. 503 if they cannot be had.
    pub(super) async fn expand(&self, claims: &mut Value) -> ApiResult<()> {
        let Some(Source::Claim(Claim { name, .. })) = &self.settings.groups else { return Ok(()) };
        let source = claims["_claim_names"][name].as_str().filter(|_| claims.get(name).is_none());
        let Some(source) = source else { return Ok(()) };
        let Some(endpoint) = claims["_claim_sources"].get(source) else {
            return Err(refused(format!("_claim_names contains the source {source:?}, which _claim_sources lacks")));
        };
        let text = |field: &str| endpoint[field].as_str().filter(|text| !text.is_empty());
        let Some(url) = text("endpoint") else { return Ok(()) };
        let bytes = self.documents.get(url, text("access_token")).await?;
        let token = str::from_utf8(&bytes).map_err(refused)?.trim();
        let said = unverified(token).unwrap_or_default();
        let issuer = said["iss"].as_str().ok_or_else(|| refused("a distributed claim has no issuer"))?;
        let found = self.verified_by(&self.issuers.keys(self, issuer), token, issuer).await?;
        let value = found.get(name).ok_or_else(|| refused(format!("could not find distributed claim {name:?}")))?;
        claims[name] = value.clone();
        Ok(())
    }
}
