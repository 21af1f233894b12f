//! Ways to servers with defects that real caches and clients had, built into what is otherwise sound. Numbers are
//! Kubernetes issues.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use k8s_core::{
    request::{ApiRequest, ApiResponse, ResponseBody, Verb, VersionMatch, WatchEvent, WatchStream},
    seam::transport::Transport,
    status::ApiResult,
};

use super::{scene::Scene, stack::Stack};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Nothing.
    None,
    /// A watch that begins where nothing has happened since misses what happens first (49992).
    EmptyWindow,
    /// A watch that resumes soon after a server's start begins at what the server knows by then (116172).
    ReinitGap,
    /// Deletions do not reach watches (123072).
    DeletesAreLost,
    /// A list is of a while ago (97294).
    ListIsStale,
    /// So is the list that an informer begins with (59848).
    FirstListIsStale,
    /// A resumed watch begins with what its reader has seen.
    Replays,
    /// A bookmark is told before the change that it covers.
    BookmarkOvertakes,
    /// A change comes twice.
    Twice,
    /// A watch goes deaf when another one ends, and is still told bookmarks.
    GoesDeaf,
    /// An update looks like a creation.
    UpdateIsAdded,
    /// A deletion shows the object as it was before its last change.
    OlderGone,
    /// An informer does not tell its handlers what a list no longer shows.
    GoneIsUntold,
}

/// The way to the servers, spoilt.
pub struct Spoilt {
    pub stack: Arc<Stack>,
    pub scene: Arc<Scene>,
    pub defect: Defect,
}

impl Spoilt {
    fn spoil_request(&self, request: &mut ApiRequest) {
        let options = &mut request.options;
        let newest = self.scene.acknowledged.load(SeqCst);
        match (self.defect, request.verb, options.resource_version) {
            // When nobody writes any more even an old cache has caught up.
            (Defect::ListIsStale | Defect::FirstListIsStale, Verb::List, None)
                if newest > 40 && self.scene.until.load(SeqCst) == 0 =>
            {
                options.resource_version = Some(newest - 30);
                options.resource_version_match = Some(VersionMatch::Exact);
            }
            (Defect::ReinitGap, Verb::Watch, Some(from)) if self.stack.is_fresh(Duration::from_secs(20)) => {
                options.resource_version = Some(newest.max(from));
            }
            (Defect::Replays, Verb::Watch, Some(from)) => options.resource_version = Some(from.saturating_sub(3)),
            _ => {}
        }
    }

    fn spoil_watch(&self, watch: WatchStream, from: Option<u64>) -> WatchStream {
        let defect = self.defect;
        let mut count = 0_u64;
        let mut known = std::collections::BTreeMap::new();
        let window_is_empty = from.is_some_and(|from| from >= self.scene.acknowledged.load(SeqCst));
        let spoilt = watch.flat_map(move |item| {
            let Ok(event) = &item else { return stream::iter(vec![item]) };
            let Some(object) = event.object() else { return stream::iter(vec![item]) };
            count += 1;
            let revision = event.revision();
            let before = known.insert(object.meta.key(), object.clone());
            let items = match (defect, event) {
                (Defect::EmptyWindow, _) if window_is_empty && count == 1 => vec![],
                (Defect::DeletesAreLost, WatchEvent::Deleted(_)) => vec![],
                (Defect::Twice, _) if count.is_multiple_of(9) => vec![item.clone(), item],
                (Defect::GoesDeaf, _) if from.is_some() && count > 20 => vec![],
                (Defect::BookmarkOvertakes, _) if from.is_some() && count.is_multiple_of(9) => {
                    vec![Ok(WatchEvent::Bookmark { revision, initial_events_end: false }), item]
                }
                (Defect::UpdateIsAdded, WatchEvent::Modified(object)) => vec![Ok(WatchEvent::Added(object.clone()))],
                (Defect::OlderGone, WatchEvent::Deleted(_)) => match before {
                    Some(before) if count.is_multiple_of(2) => {
                        let json = super::scene::object(&before.meta.namespace, &before.meta.name, "old", "older");
                        let gone = k8s_core::object::Object::from_json(json.into(), Some(revision));
                        vec![gone.map(|gone| WatchEvent::Deleted(Arc::new(gone)))]
                    }
                    _ => vec![item],
                },
                _ => vec![item],
            };
            stream::iter(items)
        });
        Box::pin(spoilt)
    }
}

#[async_trait]
impl Transport for Spoilt {
    async fn call(&self, mut request: ApiRequest) -> ApiResult<ApiResponse> {
        let from = request.options.resource_version;
        self.spoil_request(&mut request);
        let mut answer = self.stack.call(request).await?;
        answer.body = match answer.body {
            ResponseBody::Watch(watch) => ResponseBody::Watch(self.spoil_watch(watch, from)),
            other => other,
        };
        Ok(answer)
    }
}
