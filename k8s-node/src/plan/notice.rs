//! What people are told about a pod, as its plan sees it.

/// One event. The agent tells it when it first appears in a plan, and not again while it stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// Whether somebody should look.
    pub severity: Severity,
    /// One word, such as `BackOff`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// The container it is about, if any.
    pub container: Option<String>,
}

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}
