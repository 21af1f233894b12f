//! The way to another server, and how it is told who asks.

use http::{HeaderMap, HeaderName, HeaderValue};
use k8s_core::{
    path::percent_encoded,
    request::Caller,
    seam::node::ByteStream,
    status::{ApiError, ApiResult},
};

use super::{Entry, entry::Remote};
use crate::{auth::front_proxy::RequestHeaders, server::Inner};

/// A connection to the server that answers for a request.
pub(crate) struct Passing {
    /// The connection; HTTP/1.1 is spoken on it.
    pub stream: Box<dyn ByteStream>,
    /// Its `Host`.
    pub host: String,
}

/// Connects to the server of an APIService. 503 while it is not available.
pub(crate) async fn connect(inner: &Inner, entry: &Entry) -> ApiResult<Passing> {
    let Some(remote) = entry.remote.as_ref().filter(|_| entry.is_available) else {
        return Err(ApiError::unavailable("service unavailable"));
    };
    Ok(Passing { stream: dial(inner, remote).await?, host: remote.server_name() })
}

pub(super) async fn dial(inner: &Inner, remote: &Remote) -> ApiResult<Box<dyn ByteStream>> {
    let dialer = remote.dialer.as_ref().as_ref().map_err(|why| ApiError::unavailable(why.clone()))?;
    let address = inner.webhooks.address(&inner.cluster, &remote.namespace, &remote.service, remote.port);
    let address = address.map_err(|why| ApiError::unavailable(why.to_string()))?;
    dialer.dial(&address.ip().to_string(), address.port(), &remote.server_name()).await
}

/// Says for whom is asked, in the headers of front proxies. Whatever a client wrote there is taken out first.
pub(crate) fn name_caller(headers: &mut HeaderMap, caller: &Caller) -> ApiResult<()> {
    RequestHeaders::standard().remove(headers);
    let value = |text: &str| {
        // Header values hold any byte but control characters.
        HeaderValue::from_bytes(text.as_bytes())
            .map_err(|_| ApiError::bad_request(format!("{text:?} cannot be sent as a header")))
    };
    headers.insert(HeaderName::from_static("x-remote-user"), value(&caller.name)?);
    if !caller.uid.is_empty() {
        headers.insert(HeaderName::from_static("x-remote-uid"), value(&caller.uid)?);
    }
    for group in &caller.groups {
        headers.append(HeaderName::from_static("x-remote-group"), value(group)?);
    }
    for (key, values) in &caller.extra {
        let name = format!("x-remote-extra-{}", percent_encoded(key));
        let name: HeaderName = name.parse().map_err(|_| ApiError::bad_request(format!("extra key {key:?}")))?;
        for one in values {
            headers.append(name.clone(), value(one)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_read() {
        let mut caller = Caller::new("jane", &["devs"]);
        caller.uid = "7".into();
        caller.extra = vec![("acme.com/scope".into(), vec!["a".into(), "b".into()])];
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-group", HeaderValue::from_static("system:masters"));
        headers.insert("x-remote-extra-evil", HeaderValue::from_static("x"));
        name_caller(&mut headers, &caller).unwrap();
        assert_eq!(RequestHeaders::standard().take(&mut headers), Some(caller));
    }
}
