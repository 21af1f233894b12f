//! Front proxies: servers whose certificate lets them say for whom they ask, in headers.
//!
//! Follows upstream's `requestheader` authenticator (`--requestheader-*`). The headers of anybody else are not read.

use http::{HeaderMap, HeaderName};
use k8s_core::{doc::Text, path::percent_decode, request::Caller};
use k8s_wire::{serve::Peer, tls::ClientTrust};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Which headers say for whom a front proxy asks.
#[derive(Debug, Clone, Default)]
pub struct RequestHeaders {
    /// The user name: the first of these headers that is there and not empty.
    pub username: Vec<HeaderName>,
    /// The uid, likewise.
    pub uid: Vec<HeaderName>,
    /// The groups: all values of all these headers.
    pub group: Vec<HeaderName>,
    /// Beginnings of headers whose rest is the percent-encoded key of an extra. Lower case.
    pub extra_prefix: Vec<String>,
}

impl RequestHeaders {
    /// `X-Remote-User`, `X-Remote-Uid`, `X-Remote-Group` and `X-Remote-Extra-`: those that API servers send each other.
    pub fn standard() -> Self {
        Self {
            username: vec![HeaderName::from_static("x-remote-user")],
            uid: vec![HeaderName::from_static("x-remote-uid")],
            group: vec![HeaderName::from_static("x-remote-group")],
            extra_prefix: vec!["x-remote-extra-".into()],
        }
    }

    /// Takes the headers out and answers for whom they ask; `None` if they name nobody.
    pub fn take(&self, headers: &mut HeaderMap) -> Option<Caller> {
        let first = |headers: &HeaderMap, names: &[HeaderName]| {
            names.iter().find_map(|name| texts(headers, name).into_iter().find(|text| !text.is_empty()))
        };
        let name = first(headers, &self.username);
        let uid = first(headers, &self.uid).unwrap_or_default();
        let groups: Vec<Text> = self.group.iter().flat_map(|name| texts(headers, name)).collect();
        let mut extra: Vec<(Text, Vec<Text>)> = Vec::new();
        for header in self.extra_headers(headers) {
            let prefix = self.extra_prefix.iter().find(|prefix| header.as_str().starts_with(prefix.as_str()));
            let key = &header.as_str()[prefix.map_or(0, String::len)..];
            // What is not percent-encoded is a key as it stands.
            let key = percent_decode(key).map_or_else(|| Text::from(key), Text::from);
            let values = texts(headers, &header);
            match extra.iter_mut().find(|(other, _)| *other == key) {
                Some((_, known)) => known.extend(values),
                None => extra.push((key, values)),
            }
        }
        extra.sort();
        self.remove(headers);
        let mut caller = Caller { name: name?, uid, groups, extra, ..Caller::default() };
        if !caller.is_in("system:authenticated") && !caller.is_in("system:unauthenticated") {
            caller.groups.push("system:authenticated".into());
        }
        Some(caller)
    }

    /// Takes the headers out, whoever sent them.
    pub fn remove(&self, headers: &mut HeaderMap) {
        for name in self.username.iter().chain(&self.uid).chain(&self.group) {
            headers.remove(name);
        }
        for name in self.extra_headers(headers) {
            headers.remove(name);
        }
    }

    fn extra_headers(&self, headers: &HeaderMap) -> Vec<HeaderName> {
        let is_extra = |name: &&HeaderName| self.extra_prefix.iter().any(|prefix| name.as_str().starts_with(prefix));
        headers.keys().filter(is_extra).cloned().collect()
    }
}

fn texts(headers: &HeaderMap, name: &HeaderName) -> Vec<Text> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok().map(Text::from)).collect()
}

/// Believes front proxies.
pub struct FrontProxy {
    /// Their authority; apart from that of clients.
    pub trust: ClientTrust,
    /// The common names of their certificates; all that the authority issued if there are none.
    pub allowed_names: Vec<String>,
    /// The headers that they say it with.
    pub headers: RequestHeaders,
}

impl FrontProxy {
    /// For whom a front proxy asks; the headers are taken out. `None` if the peer is no front proxy or names nobody.
    ///
    /// A connection's certificate is looked at once.
    pub fn caller(&self, headers: &mut HeaderMap, peer: &Peer) -> Option<Caller> {
        let is_front_proxy = *peer.is_front_proxy.get_or_init(|| self.knows(peer));
        if is_front_proxy { self.headers.take(headers) } else { None }
    }

    fn knows(&self, peer: &Peer) -> bool {
        let chain: Vec<Vec<u8>> = peer.certificates.iter().map(|certificate| certificate.to_vec()).collect();
        let Some(leaf) = chain.first() else { return false };
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return false };
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or("");
        let allowed = self.allowed_names.is_empty() || self.allowed_names.iter().any(|allowed| allowed == name);
        allowed && self.trust.verify(&chain).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use k8s_wire::{env::System, pki};

    use super::*;
    use crate::outer::credentials::tests::headers;

    #[test]
    fn the_headers_say_all_of_a_caller_and_go_no_further() {
        let mut sent = headers(&[
            ("x-remote-user", "bob"),
            ("x-remote-uid", "u1"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-acme.com%2fscope", "s"),
            ("x-remote-extra-plain%", "1"),
            ("accept", "x"),
        ]);
        let caller = RequestHeaders::standard().take(&mut sent).unwrap();
        assert_eq!((caller.name.as_str(), caller.uid.as_str()), ("bob", "u1"));
        assert_eq!(caller.groups, ["a", "b", "system:authenticated"]);
        let text = |text: &str| Text::from(text);
        let extra = [(text("acme.com/scope"), vec![text("s")]), (text("plain%"), vec![text("1")])];
        assert_eq!(caller.extra, extra);
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(RequestHeaders::standard().take(&mut headers(&[("x-remote-group", "a")])), None);
    }

    #[tokio::test]
    async fn only_a_certificate_of_its_authority_and_name_makes_a_front_proxy() {
        let env = System::current();
        let authority = |name: &str| pki::Authority::generate(name, env.now()).unwrap();
        let (front, clients) = (authority("front"), authority("clients"));
        let peer = |authority: &pki::Authority, name: &str| {
            let identity = authority.issue_client(name, &[], env.now()).unwrap();
            Peer { certificates: identity.certificates().unwrap(), ..Peer::default() }
        };
        let roots = pki::certificates("front", front.certificate_pem().as_bytes()).unwrap();
        let mut proxy = FrontProxy {
            trust: ClientTrust::new(env.clone(), &roots).unwrap(),
            allowed_names: vec!["aggregator".into()],
            headers: RequestHeaders::standard(),
        };
        let asked = |proxy: &FrontProxy, peer: &Peer| {
            let mut headers = headers(&[("x-remote-user", "bob")]);
            proxy.caller(&mut headers, peer).map(|caller| caller.name.to_string())
        };
        let good = peer(&front, "aggregator");
        assert_eq!(asked(&proxy, &good).as_deref(), Some("bob"));
        assert_eq!(asked(&proxy, &good).as_deref(), Some("bob"), "again, on the same connection");
        assert_eq!(asked(&proxy, &peer(&front, "other")), None);
        assert_eq!(asked(&proxy, &peer(&clients, "aggregator")), None);
        assert_eq!(asked(&proxy, &Peer::default()), None);
        proxy.allowed_names.clear();
        assert_eq!(asked(&proxy, &peer(&front, "other")).as_deref(), Some("bob"));
    }
}
