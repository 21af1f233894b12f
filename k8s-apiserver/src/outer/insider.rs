//! The outer service for programs in the same process: it knows who asks, and any tower client speaks to it.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use k8s_core::{env::BoxFuture, request::Caller};
use k8s_wire::body::{self, Body, BoxError};

use super::Outer;

/// An [`Outer`] that takes every request for one caller's. A `tower::Service` over HTTP requests with any body, such as
/// clients of other crates take for a connection; cloning shares.
///
/// What the caller may do is decided as for everyone. Credentials in a request are not looked at, `Impersonate-*`
/// headers are. The caller's agent stands for a `User-Agent` that a request lacks. Nothing here is a connection, so
/// nothing can be upgraded: exec, attach and port-forward need a port, or
/// [`serve_stream`](k8s_wire::serve::Server::serve_stream).
#[derive(Clone)]
pub struct Insider {
    outer: Outer,
    caller: Caller,
}

/// Who asks, among a request's extensions. Nobody outside of this crate can make one.
#[derive(Clone)]
pub(super) struct Known(Caller);

impl Outer {
    /// The same service for a program in this process that acts as `caller`.
    pub fn as_caller(&self, caller: Caller) -> Insider {
        Insider { outer: self.clone(), caller }
    }
}

impl Known {
    /// Who asks, with the program that the request names. Credentials are taken out, so that they go nowhere.
    pub(super) fn caller(self, headers: &mut HeaderMap) -> Caller {
        headers.remove(header::AUTHORIZATION);
        if headers.contains_key(header::USER_AGENT) { super::credentials::with_agent(self.0, headers) } else { self.0 }
    }
}

impl<B> tower::Service<Request<B>> for Insider
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower::Service::<Request<Body>>::poll_ready(&mut self.outer, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(body::boxed);
        request.extensions_mut().insert(Known(self.caller.clone()));
        self.outer.call(request)
    }
}
