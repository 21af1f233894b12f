//! How this server tells who asks, for servers that stand behind it.
//!
//! Upstream's ConfigMap `kube-system/extension-apiserver-authentication`: extension API servers believe the same client
//! certificates, and this server's word about its callers. Several servers of one cluster keep one ConfigMap: each adds
//! what it believes, and takes nothing away.

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

/// Adds to what is published what is missing there; whether anything was.
pub(crate) fn add(found: &mut Doc, wanted: &Doc) -> bool {
    let before = found.get("data").cloned();
    for (key, value) in wanted.get("data").and_then(Doc::as_object).into_iter().flat_map(|data| data.iter()) {
        let (there, value) = (found.str_at(&["data", key]).to_owned(), value.as_str().unwrap_or_default());
        let both = if key.ends_with("-file") { certificates(&there, value) } else { texts(&there, value) };
        found.set_at(&["data", key], both.into());
    }
    found.get("data") != before.as_ref()
}

/// The certificates of both PEM texts, each once.
fn certificates(there: &str, wanted: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let blocks =
        |text: &str| -> Vec<String> { text.split_inclusive(END).map(|block| block.trim().to_owned()).collect() };
    let mut all: Vec<String> = Vec::new();
    for block in blocks(there).into_iter().chain(blocks(wanted)) {
        if block.ends_with(END) && !all.contains(&block) {
            all.push(block);
        }
    }
    all.iter().map(|block| format!("{block}\n")).collect()
}

/// The texts of both lists, each once. What is no list counts as none.
fn texts(there: &str, wanted: &str) -> String {
    let read = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap_or_default();
    let mut all: Vec<String> = Vec::new();
    for text in read(there).into_iter().chain(read(wanted)) {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    list(all.into_iter())
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
    fn what_another_server_believes_stays() {
        let pem = |name: &str| format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n");
        let of = |name: &str, header: &str| doc!({"data": {"client-ca-file": pem(name), "requestheader-group-headers": format!("[\"{header}\"]")}});
        let mut found = doc!({"metadata": {"name": "x"}});
        assert!(add(&mut found, &of("one", "A")));
        assert!(!add(&mut found, &of("one", "A")), "nothing is written twice");
        assert!(add(&mut found, &of("two", "B")));
        assert!(!add(&mut found, &of("one", "A")) && !add(&mut found, &of("two", "B")), "two servers do not quarrel");
        assert_eq!(found.str_at(&["data", "client-ca-file"]), pem("one") + &pem("two"));
        assert_eq!(found.str_at(&["data", "requestheader-group-headers"]), r#"["A","B"]"#);
        found.set_at(&["data", "client-ca-file"], "nonsense".into());
        assert!(add(&mut found, &of("one", "A")));
        assert_eq!(found.str_at(&["data", "client-ca-file"]), pem("one"));
    }

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
