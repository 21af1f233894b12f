//! What annotations can make a pretended container do.

use std::time::Duration;

use jiff::SignedDuration;

use crate::runtime::{ContainerSpec, RuntimeError, SandboxSpec};

/// Read from the annotations `hollow/NAME.CONTAINER` (for the container of that name) and `hollow/NAME` (for all) of
/// the container, then of the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instructions {
    /// `exit-after`, a duration such as `2s`: end by itself so long after the start.
    pub exit_after: Option<Duration>,
    /// `exit-code`: with which code; given alone, at once.
    pub exit_code: Option<i32>,
    /// `failures`: only the first so many attempts end by themselves (with code 1 unless said), later ones stay.
    pub failures: Option<u32>,
    /// `start-error`: refuse to start, in these words.
    pub start_error: Option<String>,
    /// `stop-after`, a duration: how long it takes to end when asked to.
    pub stop_after: Duration,
    /// `log`: its standard output.
    pub log: String,
    /// `exec-exit-code`: what commands inside it answer.
    pub exec_exit_code: i32,
    /// `exec-output`: what commands inside it print.
    pub exec_output: String,
}

impl Instructions {
    /// Reads the instructions for a container. A value that cannot be read is refused.
    pub(super) fn of(sandbox: &SandboxSpec, container: &ContainerSpec) -> Result<Self, RuntimeError> {
        let get = |name: &str| {
            let keys = [format!("hollow/{name}.{}", container.name), format!("hollow/{name}")];
            let places = [&container.annotations, &sandbox.annotations];
            places.iter().find_map(|place| keys.iter().find_map(|key| place.get(key))).map(String::as_str)
        };
        Ok(Self {
            exit_after: get("exit-after").map(|text| duration("exit-after", text)).transpose()?,
            exit_code: get("exit-code").map(|text| number("exit-code", text)).transpose()?,
            failures: get("failures").map(|text| number("failures", text)).transpose()?,
            start_error: get("start-error").map(str::to_owned),
            stop_after: get("stop-after").map(|text| duration("stop-after", text)).transpose()?.unwrap_or_default(),
            log: get("log").unwrap_or_default().to_owned(),
            exec_exit_code: get("exec-exit-code").map(|t| number("exec-exit-code", t)).transpose()?.unwrap_or(0),
            exec_output: get("exec-output").unwrap_or_default().to_owned(),
        })
    }

    /// When and how this attempt ends by itself, if it does.
    pub(super) fn exit(&self, attempt: u32) -> Option<(Duration, i32)> {
        let fails = self.failures.map(|failures| attempt < failures);
        if fails == Some(false) || (fails.is_none() && self.exit_after.is_none() && self.exit_code.is_none()) {
            return None;
        }
        let default_code = if fails.is_some() { 1 } else { 0 };
        Some((self.exit_after.unwrap_or_default(), self.exit_code.unwrap_or(default_code)))
    }
}

fn duration(name: &str, text: &str) -> Result<Duration, RuntimeError> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| invalid(name, text, "a duration such as `2s` or `500ms`"))
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, RuntimeError> {
    text.parse().map_err(|_| invalid(name, text, "a number"))
}

fn invalid(name: &str, text: &str, wanted: &str) -> RuntimeError {
    RuntimeError::InvalidSpec { message: format!("annotation hollow/{name}: {text:?} is not {wanted}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> Result<Instructions, RuntimeError> {
        let annotations = annotations.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let sandbox = SandboxSpec { annotations, ..SandboxSpec::default() };
        Instructions::of(&sandbox, &ContainerSpec { name: "main".to_owned(), ..ContainerSpec::default() })
    }

    #[test]
    fn the_containers_own_instruction_wins() {
        let found = read(&[("hollow/exit-code", "1"), ("hollow/exit-code.main", "7"), ("hollow/exit-after", "1500ms")]);
        assert_eq!(found.unwrap().exit(0), Some((Duration::from_millis(1500), 7)));
    }

    #[test]
    fn failures_end_after_the_attempts_named() {
        let found = read(&[("hollow/failures", "2")]).unwrap();
        assert_eq!([0, 1, 2].map(|n| found.exit(n).map(|(_, code)| code)), [Some(1), Some(1), None]);
        assert_eq!(read(&[]).unwrap().exit(0), None);
    }

    #[test]
    fn nonsense_is_named() {
        let error = read(&[("hollow/exit-after", "soon")]).unwrap_err().to_string();
        assert_eq!(error, "annotation hollow/exit-after: \"soon\" is not a duration such as `2s` or `500ms`");
    }
}
