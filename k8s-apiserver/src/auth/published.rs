//! How this server tells who asks, for servers that stand behind it.
//!
//! Upstream's ConfigMap `kube-system/extension-apiserver-authentication`: extension API servers believe the same client
//! certificates, and this server's word about its callers.

use http::HeaderName;
use k8s_core::{doc, doc::Doc};

use super::front_proxy::RequestHeaders;

/// What is published.
#[derive(Debug, Clone)]
pub struct PublishedAuthentication {
    /// The authorities of client certificates, PEM.
    pub client_authorities_pem: String,
    /// The authorities of front proxies, PEM.
    pub front_proxy_authorities_pem: String,
    /// The common names of front proxies.
    pub allowed_names: Vec<String>,
    /// The headers by which they say for whom they ask.
    pub headers: RequestHeaders,
}

impl PublishedAuthentication {
    /// The ConfigMap. Lists are JSON in text, as upstream's readers want them.
    pub fn config_map(&self) -> Doc {
        let names = |names: &[HeaderName]| list(names.iter().map(|name| as_written(name.as_str())));
        let prefixes = self.headers.extra_prefix.iter().map(|prefix| as_written(prefix));
        doc!({
            "metadata": {"name": "extension-apiserver-authentication"},
            "data": {
                "client-ca-file": self.client_authorities_pem.as_str(),
                "requestheader-allowed-names": list(self.allowed_names.iter().cloned()),
                "requestheader-client-ca-file": self.front_proxy_authorities_pem.as_str(),
                "requestheader-extra-headers-prefix": list(prefixes),
                "requestheader-group-headers": names(&self.headers.group),
                "requestheader-uid-headers": names(&self.headers.uid),
                "requestheader-username-headers": names(&self.headers.username)
            }
        })
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    Doc::from(items.collect::<Vec<_>>()).to_string()
}

/// `X-Remote-User` for `x-remote-user`: readers compare without case, people do not.
fn as_written(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_upstreams_does() {
        let published = PublishedAuthentication {
            client_authorities_pem: "CLIENTS".into(),
            front_proxy_authorities_pem: "FRONT".into(),
            allowed_names: vec!["front-proxy-client".into()],
            headers: RequestHeaders::standard(),
        };
        let map = published.config_map();
        for (key, value) in [
            ("client-ca-file", "CLIENTS"),
            ("requestheader-client-ca-file", "FRONT"),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ] {
            assert_eq!(map.str_at(&["data", key]), value, "{key}");
        }
    }
}
