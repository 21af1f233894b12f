//! Reads of one kind: one object, or a list at some revision.
//!
//! The meaning of `resourceVersion`, `resourceVersionMatch`, `limit` and `continue` is upstream's.

use std::sync::Arc;

use k8s_core::{
    object::{Object, ObjectKey},
    request::{ObjectList, Options, VersionMatch},
    status::{ApiError, ApiResult, FieldError},
};

use super::{Cache, filter::Filter, kind::KindCache, page::Token, state::State};

/// Where a list is to be read.
enum At {
    /// The newest revision.
    Head,
    /// Whatever the cache shows, but not older than this.
    NotBefore(u64),
    /// This revision and no other.
    Exactly(u64),
}

impl Cache {
    /// One object: the newest, or one that is not older than the revision asked for.
    pub async fn get(&self, kind: &KindCache, key: &ObjectKey, options: &Options) -> ApiResult<Option<Arc<Object>>> {
        match options.resource_version {
            None => self.wait_for_head().await?,
            Some(revision) => self.wait_for(revision).await?,
        }
        Ok(kind.state().get(key).cloned())
    }

    /// A list, or a page of one.
    pub async fn list(&self, kind: &KindCache, filter: &Filter, options: &Options) -> ApiResult<ObjectList> {
        check_list_options(options)?;
        if let Some(text) = &options.continue_token {
            let token = Token::decode(text)?;
            return self.next_page(kind, filter, options, token).await;
        }
        match at(options) {
            At::Head => self.wait_for_head().await?,
            At::NotBefore(revision) => self.wait_for(revision).await?,
            At::Exactly(revision) => {
                self.wait_for(revision).await?;
                kind.prepare(filter);
                let state = kind.state_at(revision)?;
                return Ok(page(kind, &state, filter, options, revision, None));
            }
        }
        kind.prepare(filter);
        let (state, revision) = self.newest(kind);
        Ok(page(kind, &state, filter, options, revision, None))
    }

    async fn next_page(
        &self,
        kind: &KindCache,
        filter: &Filter,
        options: &Options,
        token: Token,
    ) -> ApiResult<ObjectList> {
        let Some(revision) = token.revision else {
            self.wait_for_head().await?;
            let (state, revision) = self.newest(kind);
            return Ok(page(kind, &state, filter, options, revision, Some(token)));
        };
        self.wait_for(revision).await?;
        match kind.state_at(revision) {
            Ok(state) => Ok(page(kind, &state, filter, options, revision, Some(token))),
            Err(error) if error.is_expired() => Err(expired_token(token)),
            Err(error) => Err(error),
        }
    }

    /// The newest state of a kind, and the revision whose state it is.
    pub(super) fn newest(&self, kind: &KindCache) -> (Arc<State>, u64) {
        // The revision is read first: every change up to it is in the state, and none after the state's own.
        let revision = self.revision();
        let state = kind.state();
        let revision = revision.max(state.revision);
        (state, revision)
    }
}

fn at(options: &Options) -> At {
    let has_limit = options.limit.is_some_and(|limit| limit > 0);
    match (options.resource_version, options.resource_version_match) {
        (None, _) => At::Head,
        (Some(0), _) => At::NotBefore(0),
        (Some(revision), Some(VersionMatch::Exact)) => At::Exactly(revision),
        // A limit without a match means exactly, for clients older than `resourceVersionMatch`.
        (Some(revision), None) if has_limit => At::Exactly(revision),
        (Some(revision), _) => At::NotBefore(revision),
    }
}

fn page(
    kind: &KindCache,
    state: &State,
    filter: &Filter,
    options: &Options,
    revision: u64,
    token: Option<Token>,
) -> ObjectList {
    let shown = token.as_ref().map_or(0, |token| token.shown);
    let limit = options.limit.filter(|limit| *limit > 0).map_or(usize::MAX, |limit| limit as usize);
    let mut looked_at = 0;
    let candidates = state.candidates(filter, token.as_ref().map(|token| &token.after));
    let mut matching = candidates.inspect(|_| looked_at += 1).filter(|object| filter.matches(object)).cloned();
    let capacity = if filter.is_whole_collection() { state.count(&filter.namespace) as usize } else { 0 };
    let mut items = Vec::with_capacity(capacity.min(limit));
    items.extend(matching.by_ref().take(limit));
    let more = items.len() == limit && matching.next().is_some();
    drop(matching);
    kind.counts.listed(looked_at, items.len());
    let shown = shown + items.len() as u64;
    let next =
        items.last().filter(|_| more).map(|last| Token { revision: Some(revision), after: last.meta.key(), shown });
    // As upstream: what a selector would leave cannot be told without looking.
    let remaining =
        (more && filter.is_whole_collection()).then(|| state.count(&filter.namespace).saturating_sub(shown));
    ObjectList { items, revision, continue_token: next.map(|token| token.encode()), remaining }
}

/// 410 with a token that goes on at the newest revision.
fn expired_token(token: Token) -> ApiError {
    let fresh = Token { revision: None, ..token }.encode();
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                   list without the continue parameter, or use the continue token in this response to retrieve the \
                   remainder of the results. Continuing with the provided token results in an inconsistent list - \
                   objects that were created, modified, or deleted between the time the first chunk was returned and \
                   now may show up in the list.";
    let mut status = ApiError::expired(message).status().clone();
    status.metadata.insert("continue".into(), fresh.into());
    ApiError::from_status(status)
}

/// Refuses combinations that upstream refuses, and names all that is wrong with them.
fn check_list_options(options: &Options) -> ApiResult<()> {
    let matching = options.resource_version_match;
    let mut errors = Vec::new();
    if matching.is_some() && options.resource_version.is_none() {
        errors.push(unmatched("resourceVersionMatch is forbidden unless resourceVersion is provided"));
    }
    if matching.is_some() && options.continue_token.is_some() {
        errors.push(unmatched("resourceVersionMatch is forbidden when continue is provided"));
    }
    if matching == Some(VersionMatch::Exact) && options.resource_version == Some(0) {
        errors.push(unmatched("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
    }
    if options.send_initial_events.is_some() {
        errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    refuse(&errors)?;
    if options.continue_token.is_some() && options.resource_version.is_some_and(|revision| revision > 0) {
        return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
    }
    Ok(())
}

/// Refuses combinations that upstream refuses, and names all that is wrong with them.
pub(super) fn check_watch_options(options: &Options) -> ApiResult<()> {
    let (matching, initial) = (options.resource_version_match, options.send_initial_events);
    let mut errors = Vec::new();
    if initial.is_some() && matching != Some(VersionMatch::NotOlderThan) {
        errors.push(unmatched("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if let Some(matching) = matching {
        if initial.is_none() {
            errors.push(unmatched("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"));
        }
        if matching != VersionMatch::NotOlderThan {
            let supported = [VersionMatch::NotOlderThan.as_str()];
            errors.push(FieldError::not_supported("resourceVersionMatch", matching.as_str(), &supported));
        }
        if options.continue_token.is_some() {
            errors.push(unmatched("resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    refuse(&errors)
}

fn unmatched(why: &str) -> FieldError {
    FieldError::forbidden("resourceVersionMatch", why)
}

fn refuse(errors: &[FieldError]) -> ApiResult<()> {
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid_options("ListOptions", errors)) }
}
