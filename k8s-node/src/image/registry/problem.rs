//! What went wrong with a registry, in words that name the request and the answer.

use std::{error::Error, fmt};

use http::StatusCode;

use crate::image::ImageError;

/// A pull cannot go on.
#[derive(Debug)]
pub(super) struct Problem {
    status: Option<StatusCode>,
    text: String,
}

impl Problem {
    /// A problem that is no answer of the registry.
    pub fn new(text: impl Into<String>) -> Self {
        Self { status: None, text: text.into() }
    }

    /// The registry refused: `what` was asked, `words` are its own.
    pub fn refused(what: &str, status: StatusCode, words: &str) -> Self {
        let colon = if words.is_empty() { "" } else { ": " };
        Self { status: Some(status), text: format!("{what}: {status}{colon}{words}") }
    }

    /// With which status the registry refused, if it did.
    pub fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// Whether somebody else may get another answer. Registries hide what one may not see behind a 404.
    pub fn may_depend_on_identity(&self) -> bool {
        matches!(self.status, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<ImageError> for Problem {
    fn from(error: ImageError) -> Self {
        Self::new(error.to_string())
    }
}

/// An error with everything behind it; the HTTP client keeps the cause for itself.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// What a registry says in a refusal: the codes and messages of its `errors`, or the beginning of its text.
pub(super) fn words(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Answer {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Entry {
        code: String,
        message: String,
    }
    const MAX_CHARS: usize = 300;
    let text = match serde_json::from_slice::<Answer>(body) {
        Ok(answer) => {
            let entries = answer.errors.into_iter().map(|Entry { code, message }| match message.is_empty() {
                true => code,
                false => format!("{code}: {message}"),
            });
            entries.collect::<Vec<_>>().join(", ")
        }
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    text.chars().filter(|letter| !letter.is_control()).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_own_words_are_kept() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#;
        assert_eq!(words(body), "MANIFEST_UNKNOWN: manifest unknown");
        assert_eq!(words(br#"{"errors":[{"code":"DENIED"},{"code":"A","message":"b"}]}"#), "DENIED, A: b");
        assert_eq!(words(b" <html>\n"), "<html>");
        assert_eq!(words(&[b'x'; 1000]).len(), 300);
        let problem = Problem::refused("GET x", StatusCode::NOT_FOUND, &words(body));
        assert_eq!(problem.to_string(), "GET x: 404 Not Found: MANIFEST_UNKNOWN: manifest unknown");
        assert!(problem.may_depend_on_identity() && !Problem::new("x").may_depend_on_identity());
    }
}
