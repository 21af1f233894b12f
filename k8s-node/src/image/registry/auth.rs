//! What a registry asks of those who want something: the challenges of its `WWW-Authenticate`.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};

/// How to present oneself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with every request.
    Basic,
    /// With a token that another service gives out.
    Bearer {
        /// Where, a URL.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The one to answer: tokens before passwords.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<Self> = texts.flat_map(schemes).filter_map(|(name, values)| Self::read(&name, values)).collect();
        let bearer = all.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(all.first()).cloned()
    }

    fn read(scheme: &str, mut values: BTreeMap<String, String>) -> Option<Self> {
        match scheme {
            "basic" => Some(Self::Basic),
            "bearer" => Some(Self::Bearer {
                realm: values.remove("realm")?,
                service: values.remove("service"),
                scope: values.remove("scope"),
            }),
            _ => None,
        }
    }
}

/// The value of `Authorization` for a user and a password.
pub(super) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// The value of `Authorization` for a token. `None` if the token cannot stand in a header.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Schemes with their parameters, names in lower case: `Bearer realm="x",service="y", Basic realm="z"`.
fn schemes(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        match (after.strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, values))) => {
                let (value, after) = parameter(value);
                values.insert(word.to_ascii_lowercase(), value);
                rest = after;
            }
            // A value of no scheme says nothing.
            (Some(value), None) => rest = parameter(value).1,
            (None, _) => {
                found.push((word.to_ascii_lowercase(), BTreeMap::new()));
                rest = after;
            }
        }
    }
}

/// A value, quoted or not, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([' ', '\t', ',']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (place, letter) in quoted.char_indices() {
        match letter {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return (value, &quoted[place + 1..]),
            _ => {
                value.push(letter);
                escaped = false;
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&'static str]) -> Option<Challenge> {
        Challenge::of(&texts.iter().map(|text| (WWW_AUTHENTICATE, HeaderValue::from_static(text))).collect())
    }

    fn token(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) })
    }

    #[test]
    fn challenges_are_read_in_all_their_forms() {
        let hub =
            r#"Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull,push""#;
        let wanted = token("https://auth.example.com/token", Some("registry"), Some("repository:a/b:pull,push"));
        assert_eq!(of(&[hub]), wanted);
        assert_eq!(of(&["Basic realm=\"x, y\"", "bearer Realm=https://t/"]), token("https://t/", None, None));
        assert_eq!(of(&["Basic realm=\"a \\\"b\\\"\", Bearer realm=\"r\""]), token("r", None, None));
        assert_eq!(of(&["basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn nonsense_is_no_challenge() {
        for text in ["", ",,,", "=", "realm=\"x\"", "Bearer", "Bearer service=\"x\"", "Digest realm=\"x\"", "\"\"\""] {
            assert_eq!(of(&[text]), None, "{text}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["Bearer realm=\"unfinished"]), token("unfinished", None, None));
    }
}
