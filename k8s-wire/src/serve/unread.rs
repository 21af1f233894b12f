//! What a service leaves of a request's body.
//!
//! Over HTTP/1.1 a connection can only go on, or even end well, once the whole request is read: a client that is still
//! sending when it ends may never see the answer. So what a service leaves is read before its answer is sent, within
//! bounds, as Go's server does.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use k8s_core::env::{self, Environment};
use parking_lot::Mutex;

use crate::body::{self, Body, BoxError};

/// The most that is read of what nobody wants.
const MAX_UNREAD_BYTES: usize = 256 * 1024;

/// A body that comes back if it is dropped before its end.
pub(super) struct Lent {
    /// `None` once it has ended.
    body: Option<Body>,
    unread: Unread,
}

/// Where a lent body comes back to.
#[derive(Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Option<Body>>>);

impl Unread {
    /// A body to be passed on.
    pub(super) fn lend(&self, body: Body) -> Body {
        body::boxed(Lent { body: Some(body), unread: self.clone() })
    }

    /// Reads what has come back, for so long at most.
    pub(super) async fn discard(&self, env: &dyn Environment, patience: Duration) {
        let left = self.0.lock().take();
        if let Some(left) = left {
            // More than the bound, an early end or no end in time: the connection ends after the answer.
            drop(env::timeout(env, patience, body::read(left, MAX_UNREAD_BYTES)).await);
        }
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.unread.0.lock() = Some(body);
        }
    }
}
