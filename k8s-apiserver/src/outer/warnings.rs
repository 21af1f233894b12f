//! Warnings, in the form of RFC 7234: `299 - "text"`. Each is told once, and all of them within a bound: upstream's.

use std::collections::BTreeSet;

use http::{HeaderValue, Response, header};
use k8s_wire::body::Body;

/// How many characters all warnings of an answer have before each is cut.
const MAX_CHARS: usize = 4 * 1024;
/// How many characters of each are left then.
const MAX_CUT_CHARS: usize = 256;

/// Adds warnings to an answer. What no header can hold is left out of their text.
pub fn add(response: &mut Response<Body>, warnings: &[String]) {
    let mut told = BTreeSet::new();
    let different = warnings.iter().filter(|text| !text.is_empty() && told.insert(text.as_str()));
    let different: Vec<&str> = different.map(String::as_str).collect();
    let total: usize = different.iter().map(|text| text.chars().count()).sum();
    let longest = if total > MAX_CHARS { MAX_CUT_CHARS } else { MAX_CHARS };
    let mut written = 0;
    for text in different {
        if written >= MAX_CHARS {
            break;
        }
        let cut: String = text.chars().take(longest).collect();
        written += cut.chars().count();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{}\"", quoted(&cut)).as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 8);
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(warnings: &[String]) -> Vec<String> {
        let mut response = Response::new(k8s_wire::body::empty());
        add(&mut response, warnings);
        let values = response.headers().get_all(header::WARNING).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    #[test]
    fn a_warning_is_told_once_and_quoted() {
        let warnings = ["unknown field \"a\"".to_owned(), "b\nc".to_owned(), "unknown field \"a\"".to_owned()];
        assert_eq!(told(&warnings), [r#"299 - "unknown field \"a\"""#, r#"299 - "bc""#]);
    }

    #[test]
    fn many_are_cut_until_they_fit() {
        let long = |n: usize| format!("{n:04}{}", "x".repeat(1000));
        assert!(told(&[long(1), long(2), long(3), long(4)]).iter().all(|text| text.len() > 1000), "these fit");
        let cut = told(&(0..100).map(long).collect::<Vec<_>>());
        assert_eq!(cut.len(), MAX_CHARS / MAX_CUT_CHARS);
        assert!(cut.iter().all(|text| text.len() == MAX_CUT_CHARS + "299 - \"\"".len()));
    }
}
