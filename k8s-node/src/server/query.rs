//! The query of a request, and the log options in it.

use std::time::Duration;

use k8s_core::{
    env::Timestamp,
    path::percent_decode,
    status::{ApiError, ApiResult},
};

use crate::runtime::{LogOptions, LogStream};

/// Names and values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        let decode = |text: &str| percent_decode(&text.replace('+', " ")).unwrap_or_else(|| text.to_owned());
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect(),
        )
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// `1` and `true` are true, as everywhere in the API.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "true"))
    }

    fn number(&self, name: &str) -> ApiResult<Option<i64>> {
        let read =
            |text: &str| text.parse().map_err(|_| ApiError::bad_request(format!("{name}: {text:?} is not a number")));
        self.get(name).filter(|text| !text.is_empty()).map(read).transpose()
    }

    /// The options of `pods/log`.
    pub fn log_options(&self, now: Timestamp) -> ApiResult<LogOptions> {
        let positive = |name: &str, least: i64| -> ApiResult<Option<u64>> {
            let number = self.number(name)?;
            match number.filter(|number| *number < least) {
                Some(number) => Err(ApiError::bad_request(format!("{name}: {number} must not be less than {least}"))),
                None => Ok(number.map(i64::unsigned_abs)),
            }
        };
        let seconds = positive("sinceSeconds", 1)?;
        let since = match (seconds, self.get("sinceTime").filter(|text| !text.is_empty())) {
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_request("at most one of sinceTime or sinceSeconds may be given"));
            }
            (Some(seconds), None) => now.checked_sub(Duration::from_secs(seconds)).ok(),
            (None, Some(text)) => {
                let invalid = |_| ApiError::bad_request(format!("sinceTime: {text:?} is not a time as of RFC 3339"));
                Some(text.parse().map_err(invalid)?)
            }
            (None, None) => None,
        };
        let one_stream = matches!(self.get("stream"), Some("Stdout" | "Stderr"));
        if one_stream && self.get("tailLines").is_some_and(|text| !text.is_empty()) {
            return Err(ApiError::bad_request("tailLines and a specific stream are mutually exclusive"));
        }
        Ok(LogOptions {
            follow: self.flag("follow"),
            tail_lines: positive("tailLines", 0)?,
            since,
            timestamps: self.flag("timestamps"),
            limit_bytes: positive("limitBytes", 1)?,
            stream: match self.get("stream").filter(|text| !text.is_empty()) {
                None | Some("All") => None,
                Some("Stdout") => Some(LogStream::Stdout),
                Some("Stderr") => Some(LogStream::Stderr),
                Some(other) => {
                    return Err(ApiError::bad_request(format!("stream: {other:?} is none of All, Stdout, Stderr")));
                }
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let query = Query::parse("command=sh&command=-c&command=echo+a%20b%26&tty=1&input=0&x");
        assert_eq!(query.all("command"), ["sh", "-c", "echo a b&"]);
        assert!(query.flag("tty") && !query.flag("input") && !query.flag("none"));
        assert_eq!(query.get("x"), Some(""));
    }

    #[test]
    fn log_options_are_checked() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let read = |text: &str| Query::parse(text).log_options(now).map_err(|error| error.to_string());
        let options = read("follow=true&tailLines=5&sinceSeconds=60&timestamps=true&limitBytes=9&stream=All").unwrap();
        assert_eq!(options.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!((options.tail_lines, options.limit_bytes, options.stream), (Some(5), Some(9), None));
        assert_eq!(read("stream=Stderr").unwrap().stream, Some(LogStream::Stderr));
        assert!(options.follow && options.timestamps);
        let refused = [
            ("tailLines=x", "tailLines: \"x\" is not a number"),
            ("tailLines=-1", "tailLines: -1 must not be less than 0"),
            ("sinceTime=today", "sinceTime: \"today\" is not a time as of RFC 3339"),
            ("stream=Stdout&tailLines=1", "tailLines and a specific stream are mutually exclusive"),
            ("stream=Both", "stream: \"Both\" is none of All, Stdout, Stderr"),
        ];
        refused.into_iter().for_each(|(text, message)| assert_eq!(read(text), Err(message.to_owned())));
        assert!(read("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z").is_err());
    }
}
