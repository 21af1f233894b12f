//! Bearer tokens: the ways to tell who presents one, asked in order.
//!
//! The same ways answer requests that carry a token and `TokenReview`s of other servers. Follows upstream's union of
//! token authenticators, with its audiences.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_core::{
    request::Caller,
    status::{ApiError, ApiResult},
};

use super::{Authenticator, Credentials};

/// Whom a token was found to stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Who it is.
    pub caller: Caller,
    /// The asked audiences that the token is for. Empty where tokens of this sort name none: they are for this server.
    pub audiences: Vec<String>,
}

/// One sort of token.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync + 'static {
    /// Tells who presents a token for one of `audiences`, which are never empty. `Ok(None)`: a token of another sort;
    /// an error: one of this sort that is not good, or that cannot be told.
    async fn authenticate(&self, token: &str, audiences: &[String]) -> ApiResult<Option<Known>>;
}

/// All sorts of tokens that a server knows, in the order in which they are asked.
pub struct BearerTokens {
    sorts: Vec<Arc<dyn TokenAuthenticator>>,
    audiences: Vec<String>,
}

impl BearerTokens {
    /// `audiences` are this server's own (`--api-audiences`).
    pub fn new(sorts: Vec<Arc<dyn TokenAuthenticator>>, audiences: Vec<String>) -> Self {
        Self { sorts, audiences }
    }

    /// Tells who presents a token that is for one of `audiences`; none are the server's own. 401 for a token that
    /// nobody knows or that is not good any more.
    pub async fn review(&self, token: &str, audiences: &[String]) -> ApiResult<Known> {
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let mut failed = None;
        for sort in &self.sorts {
            match sort.authenticate(token, wanted).await {
                Ok(Some(known)) => {
                    if let Some(known) = self.meant(known, wanted) {
                        return Ok(known);
                    }
                }
                Ok(None) => {}
                Err(why) => failed = Some(why),
            }
        }
        Err(failed.unwrap_or_else(ApiError::unauthorized))
    }

    /// Fills in for whom a token is that does not say it itself.
    fn meant(&self, mut known: Known, wanted: &[String]) -> Option<Known> {
        if known.audiences.is_empty() {
            known.audiences = self.audiences.iter().filter(|own| wanted.contains(own)).cloned().collect();
        }
        (!known.audiences.is_empty()).then_some(known)
    }
}

#[async_trait]
impl Authenticator for BearerTokens {
    async fn authenticate(&self, credentials: &Credentials) -> ApiResult<Option<Caller>> {
        let Some(token) = &credentials.bearer else { return Ok(None) };
        self.review(token, &[]).await.map(|known| Some(known.caller))
    }
}

/// The claims of a JSON Web Token as they stand there, believed by nobody: they only tell whose sort it is.
pub(super) fn unverified(token: &str) -> Option<serde_json::Value> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(&'static str, ApiResult<Option<Known>>);

    #[async_trait]
    impl TokenAuthenticator for Fixed {
        async fn authenticate(&self, token: &str, _: &[String]) -> ApiResult<Option<Known>> {
            if token == self.0 { self.1.clone() } else { Ok(None) }
        }
    }

    fn known(name: &str, audiences: &[&str]) -> ApiResult<Option<Known>> {
        let audiences = audiences.iter().map(|text| (*text).to_owned()).collect();
        Ok(Some(Known { caller: Caller::new(name, &[]), audiences }))
    }

    fn tokens(sorts: Vec<Fixed>) -> BearerTokens {
        let sorts = sorts.into_iter().map(|sort| Arc::new(sort) as Arc<dyn TokenAuthenticator>);
        BearerTokens::new(sorts.collect(), vec!["api".into(), "old".into()])
    }

    #[tokio::test]
    async fn a_sort_that_fails_does_not_hide_the_next_one() {
        let broken = || Err(ApiError::unavailable("no answer"));
        let both = tokens(vec![Fixed("t", broken()), Fixed("t", known("bob", &[]))]);
        assert_eq!(both.review("t", &[]).await.unwrap().caller.name, "bob");
        let alone = tokens(vec![Fixed("t", broken()), Fixed("u", known("bob", &[]))]);
        assert_eq!(alone.review("t", &[]).await.unwrap_err().code(), 503);
        assert_eq!(alone.review("x", &[]).await.unwrap_err().code(), 401);
    }

    #[tokio::test]
    async fn a_token_without_audiences_is_for_this_server_alone() {
        let tokens = tokens(vec![Fixed("t", known("bob", &[])), Fixed("v", known("eve", &["vault"]))]);
        assert_eq!(tokens.review("t", &[]).await.unwrap().audiences, ["api", "old"]);
        assert_eq!(tokens.review("t", &["old".into(), "vault".into()]).await.unwrap().audiences, ["old"]);
        assert_eq!(tokens.review("t", &["vault".into()]).await.unwrap_err().code(), 401);
        assert_eq!(tokens.review("v", &["vault".into()]).await.unwrap().audiences, ["vault"]);
    }
}
