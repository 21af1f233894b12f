//! Answers for `/healthz`, `/livez`, `/readyz` and `/metrics`, the same in every program.

use std::collections::BTreeSet;

use http::{Response, StatusCode, header};

use crate::body::{self, Body};

/// One named check: `Ok`, or why not.
pub struct Check {
    /// The name, as in `/readyz/NAME`.
    pub name: &'static str,
    /// Asked for every request; must answer from memory.
    pub run: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// The checks behind one health path.
#[derive(Default)]
pub struct Health {
    checks: Vec<Check>,
}

/// What a health path says.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether every check that was asked holds.
    pub healthy: bool,
    /// The text for people and probes.
    pub text: String,
}

impl Health {
    /// No checks: healthy as long as it answers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more check.
    pub fn check(mut self, name: &'static str, run: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.checks.push(Check { name, run: Box::new(run) });
        self
    }

    /// Answers `path` (such as `readyz`) with the query's `verbose` and `exclude` parameters; with `name` only that
    /// check is asked. `None` when there is no check of that name.
    pub fn verdict(&self, path: &str, name: Option<&str>, query: &str) -> Option<Verdict> {
        if let Some(name) = name {
            if name == "ping" {
                return Some(Verdict { healthy: true, text: "ok".into() });
            }
            let check = self.checks.iter().find(|check| check.name == name)?;
            return Some(match (check.run)() {
                Ok(()) => Verdict { healthy: true, text: "ok".into() },
                Err(why) => Verdict { healthy: false, text: format!("internal server error: {why}\n") },
            });
        }
        let parameters: Vec<(&str, &str)> =
            query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
        let verbose = parameters.iter().any(|(name, _)| *name == "verbose");
        let excluded: BTreeSet<&str> =
            parameters.iter().filter(|(name, _)| *name == "exclude").map(|(_, value)| *value).collect();
        Some(self.all(path, verbose, &excluded))
    }

    fn all(&self, path: &str, verbose: bool, excluded: &BTreeSet<&str>) -> Verdict {
        let (mut lines, mut healthy) = (vec!["[+]ping ok".to_owned()], true);
        for check in &self.checks {
            lines.push(if excluded.contains(check.name) {
                format!("[+]{} excluded: ok", check.name)
            } else {
                match (check.run)() {
                    Ok(()) => format!("[+]{} ok", check.name),
                    Err(why) => {
                        healthy = false;
                        format!("[-]{} failed: {why}", check.name)
                    }
                }
            });
        }
        let known = |name: &&&str| **name == "ping" || self.checks.iter().any(|check| check.name == **name);
        let strange: Vec<String> =
            excluded.iter().filter(|name| !known(name)).map(|name| format!("{name:?}")).collect();
        if !strange.is_empty() {
            lines.push(format!("warn: some health checks cannot be excluded: no matches for {}", strange.join(", ")));
        }
        let text = match (healthy, verbose) {
            (true, false) => "ok".to_owned(),
            (true, true) => format!("{}\n{path} check passed\n", lines.join("\n")),
            (false, _) => format!("{}\n{path} check failed\n", lines.join("\n")),
        };
        Verdict { healthy, text }
    }
}

impl Verdict {
    /// 200 or 500 with the text.
    pub fn response(self) -> Response<Body> {
        text(if self.healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, self.text)
    }
}

/// A plain text answer.
pub fn text(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-content-type-options", header::HeaderValue::from_static("nosniff"));
    response
}

/// An answer to `/metrics`: samples in the Prometheus text format.
pub fn metrics(samples: String) -> Response<Body> {
    let mut response = Response::new(body::full(samples));
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health::new().check("etcd", || Ok(())).check("informers", || Err("not synced".into()))
    }

    #[test]
    fn a_failing_check_is_named_and_can_be_left_out() {
        let verdict = health().verdict("readyz", None, "").unwrap();
        let expected = "[+]ping ok\n[+]etcd ok\n[-]informers failed: not synced\nreadyz check failed\n";
        assert_eq!(verdict, Verdict { healthy: false, text: expected.into() });
        let verdict = health().verdict("readyz", None, "exclude=informers").unwrap();
        assert_eq!(verdict, Verdict { healthy: true, text: "ok".into() });
        let verdict = health().verdict("readyz", None, "verbose&exclude=informer&exclude=informers").unwrap();
        let warning = "warn: some health checks cannot be excluded: no matches for \"informer\"\n";
        assert!(verdict.healthy && verdict.text.contains(warning), "{}", verdict.text);
        let verdict = health().verdict("readyz", None, "verbose&exclude=informers").unwrap();
        assert!(verdict.text.ends_with("[+]informers excluded: ok\nreadyz check passed\n"), "{}", verdict.text);
    }

    #[test]
    fn one_check_can_be_asked_alone() {
        assert!(health().verdict("livez", Some("etcd"), "").unwrap().healthy);
        assert!(health().verdict("livez", Some("ping"), "").unwrap().healthy);
        assert!(!health().verdict("livez", Some("informers"), "").unwrap().healthy);
        assert_eq!(health().verdict("livez", Some("nothing"), ""), None);
    }
}
