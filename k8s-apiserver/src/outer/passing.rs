//! Requests that another API server answers: noted, counted and authorized here as all others, then passed on.

use std::sync::Arc;

use http::{Response, request::Parts as Head};
use http_body_util::BodyExt;
use k8s_core::{
    path::{Method, RequestInfo, ResourceRequest},
    request::{ApiRequest, Caller, Verb},
    status::{ApiError, ApiResult},
};
use k8s_wire::{
    body::{self, Body},
    serve::CancellationToken,
};

use super::{Shared, audited, connect, metrics::Series, show_seat};
use crate::{
    aggregator::Entry,
    audit::Ongoing,
    auth::{self, Attributes},
    fairness::Seat,
    server::Aggregation,
};

/// What is asked of the other server.
enum Asked {
    Path(String),
    Resource,
}

impl Shared {
    /// Passes a request on. What the other server takes and gives is not looked at, so that the audit log has neither.
    #[allow(clippy::too_many_arguments)] // The parts of one request.
    pub(super) async fn pass_on(
        &self,
        aggregation: &Aggregation,
        entry: &Entry,
        method: Method,
        head: Head,
        body: Body,
        caller: Caller,
        acting_as: Option<Caller>,
    ) -> ApiResult<Response<Body>> {
        let (request, asked) = match RequestInfo::parse(method, head.uri.path(), head.uri.query().unwrap_or(""))? {
            RequestInfo::Path(path) => (ApiRequest::default(), Asked::Path(path)),
            RequestInfo::Resource(asked) => {
                let ResourceRequest { verb, target, options } = *asked;
                (ApiRequest { verb, target, options, ..ApiRequest::default() }, Asked::Resource)
            }
        };
        let ongoing = match &asked {
            Asked::Path(path) => self.note_path(path, &head, &caller, acting_as.as_ref()),
            Asked::Resource => {
                let ongoing = self.note_resource(&request, &head, &caller);
                if let (Some(ongoing), Some(other)) = (&ongoing, &acting_as) {
                    ongoing.acts_as(other);
                }
                ongoing
            }
        };
        let is_long = matches!(request.verb, Verb::Watch | Verb::Connect);
        let passed = async {
            let admitted = self.admitted(aggregation, &request, &asked, &head, caller, acting_as).await;
            let (caller, seat) = decided(admitted, &ongoing)?;
            let mut response = self.exchanged(aggregation, entry, &request, head, body, &caller, &ongoing).await?;
            show_seat(&mut response, seat.as_ref());
            Ok(response)
        };
        let answered = passed.await;
        if let (Some(ongoing), Ok(response)) = (&ongoing, &answered)
            && is_long
        {
            ongoing.streams(response.status().as_u16());
        }
        audited::end(ongoing.clone(), &answered);
        // The request is over when the last of its answer has been taken.
        answered.map(|response| response.map(|answer| held(answer, ongoing)))
    }

    /// As whom is asked, when it is their turn and they may.
    async fn admitted(
        &self,
        aggregation: &Aggregation,
        request: &ApiRequest,
        asked: &Asked,
        head: &Head,
        caller: Caller,
        acting_as: Option<Caller>,
    ) -> ApiResult<(Caller, Option<Seat>)> {
        let caller = match acting_as {
            None => caller,
            Some(other) => auth::act_as(&*self.authorizer, &caller, other).await?,
        };
        let seat = match asked {
            Asked::Path(path) => {
                let verb = head.method.as_str().to_ascii_lowercase();
                let seat = self.path_seat(&caller, &verb, path).await?;
                auth::check(&*self.authorizer, &Attributes::on_path(&caller, &verb, path)).await?;
                seat
            }
            Asked::Resource => {
                let seat = self.seat(&caller, request).await?;
                aggregation.authorize(&caller, request).await?;
                seat
            }
        };
        Ok((caller, seat))
    }

    #[allow(clippy::too_many_arguments)] // The parts of one request.
    async fn exchanged(
        &self,
        aggregation: &Aggregation,
        entry: &Entry,
        request: &ApiRequest,
        head: Head,
        body: Body,
        caller: &Caller,
        ongoing: &Option<Arc<Ongoing>>,
    ) -> ApiResult<Response<Body>> {
        let stop = head.extensions.get::<CancellationToken>().cloned().unwrap_or_default();
        let series = Series::new(request.verb, &request.target, &request.options, &head.headers);
        let (began, mut kept) = (self.env.monotonic(), self.requests.begin(request.verb, &series, stop));
        kept.noted.clone_from(ongoing);
        let answered = match aggregation.connect(entry).await {
            Ok(passing) => connect::pass_on(&self.env, head, body, passing, caller, self.request_timeout, kept).await,
            Err(why) => Err(why),
        };
        let code = answered.as_ref().map_or_else(ApiError::code, |response| response.status().as_u16());
        self.requests.answered(request.verb, &series, code, self.env.monotonic().saturating_sub(began));
        answered
    }
}

/// Notes what was decided about a request.
fn decided<T>(admitted: ApiResult<T>, ongoing: &Option<Arc<Ongoing>>) -> ApiResult<T> {
    if let Some(ongoing) = ongoing {
        let (decision, reason) = match &admitted {
            Ok(_) => ("allow", ""),
            Err(error) => ("forbid", error.status().message.as_str()),
        };
        ongoing.trail.annotate("authorization.k8s.io/decision", decision);
        ongoing.trail.annotate("authorization.k8s.io/reason", reason);
    }
    admitted
}

/// The body of an answer, which keeps what is noted of its request for as long as it lasts.
fn held(answer: Body, ongoing: Option<Arc<Ongoing>>) -> Body {
    match ongoing {
        None => answer,
        Some(ongoing) => body::boxed(answer.map_frame(move |frame| {
            let _ = &ongoing;
            frame
        })),
    }
}
