//! One type of HTTP body for requests and answers of every origin.

use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};

/// Any error that ends a body early.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body: bytes at hand, or a stream of them.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Nothing.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// Bytes at hand.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Bytes as they come. An error cuts the answer off so that the reader notices.
pub fn stream<E: Into<BoxError> + 'static>(chunks: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> Body {
    StreamBody::new(chunks.map_ok(Frame::data).map_err(Into::into)).boxed_unsync()
}

/// Boxes a body of any other type.
pub fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// Why a body could not be read whole.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// It holds more than the limit; reading stopped there.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// It ended early or its connection failed.
    Broken(BoxError),
}

/// Reads a body to its end, up to `limit` bytes.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, ReadError> {
    if http_body::Body::size_hint(&body).lower() > limit as u64 {
        return Err(ReadError::TooLarge { limit });
    }
    let (mut body, mut first, mut whole) = (body, Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() else { continue };
        if first.len() + whole.len() + data.len() > limit {
            return Err(ReadError::TooLarge { limit });
        }
        // Most bodies are one piece, which is then not copied.
        match (first.is_empty(), whole.is_empty()) {
            (true, true) => first = data,
            (false, _) => {
                whole.extend_from_slice(&std::mem::take(&mut first));
                whole.extend_from_slice(&data);
            }
            (true, false) => whole.extend_from_slice(&data),
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "the body is larger than {limit} bytes"),
            Self::Broken(_) => f.write_str("the body ended early"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooLarge { .. } => None,
            Self::Broken(source) => Some(source.as_ref()),
        }
    }
}
