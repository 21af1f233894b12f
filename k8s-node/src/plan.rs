//! The pod lifecycle as one pure function: what is wanted, what there is, what time it is, hence what to do.
//!
//! [`plan`] never waits, never asks and never remembers: everything it needs is in [`Observed`], and what it wants done
//! is in [`Plan::ops`]. Carrying the operations out is [`crate::agent`]'s business; each is idempotent, so planning again
//! while one is under way only names it again. Upstream's counterpart is the kubelet's `SyncPod` with `computePodActions`.

mod back_off;
mod notice;
mod observed;
mod op;
mod part;
mod resources;
mod restart;
mod run;
mod terminate;
mod view;

pub use back_off::{BackOff, CRASH_LOOP, Ladder};
pub use notice::{Notice, Severity};
pub use observed::{Failure, History, Host, Observed, ProbeResults, Rejection, Subject, Volumes};
pub use op::{Op, OpKey};
pub use part::{Part, Role, parts};
pub use resources::{container_resources, pod_resources, request, total_requests};
pub use restart::restarts;

use k8s_core::{
    api::api::core::v1::{Pod, PodStatus},
    env::Timestamp,
};
use std::collections::BTreeMap;

use crate::status::{self, Cause};
use view::View;

/// The annotation of a sandbox that counts the sandboxes of its pod.
pub const SANDBOX_ATTEMPT: &str = "node.k8s/attempt";
/// The annotation of a container that carries the crash-loop back-off that holds once it ends, see [`BackOff`].
pub const BACK_OFF: &str = "node.k8s/back-off";

/// What to do about one pod now.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// To be carried out side by side; what must wait for another is not named before that is done.
    pub ops: Vec<Op>,
    /// What `status` should say now.
    pub status: PodStatus,
    /// When to plan again even if nothing changes.
    pub next_wake: Option<Timestamp>,
    /// What people should be told, once for as long as it stays in the plan.
    pub notices: Vec<Notice>,
    /// Whether the pod is being stopped; the moment this is first so is [`History::stopping_since`].
    pub stopping: bool,
}

/// Plans one pod. `pod.status` must be the latest status known, be it read or just written.
pub fn plan(pod: &Pod, observed: &Observed, now: Timestamp) -> Plan {
    let mut draft = Draft::new(View::new(pod, observed, now));
    let cause = draft.cause();
    match &cause {
        Cause::Active => run::run(&mut draft),
        Cause::Rejected => terminate::finish_if_deleted(&mut draft),
        Cause::Deleted | Cause::DeadlineExceeded | Cause::Completed => terminate::terminate(&mut draft, &cause),
    }
    draft.collect_garbage();
    draft.into_plan(cause)
}

/// Plans the end of a pod that the API server no longer knows: everything of it goes.
pub fn plan_orphan(observed: &Observed, now: Timestamp) -> Vec<Op> {
    terminate::orphan(observed, now)
}

/// A plan in the making.
struct Draft<'a> {
    view: View<'a>,
    ops: Vec<Op>,
    notices: Vec<Notice>,
    /// Why a container that is not running waits.
    waiting: BTreeMap<String, (String, String)>,
    next_wake: Option<Timestamp>,
    stopping: bool,
}

impl<'a> Draft<'a> {
    fn new(view: View<'a>) -> Self {
        Self { view, ops: vec![], notices: vec![], waiting: BTreeMap::new(), next_wake: None, stopping: false }
    }

    /// Why the pod is, or is not, to run.
    fn cause(&mut self) -> Cause {
        let view = &self.view;
        if view.is_terminal() {
            return if view.observed.history.rejection.is_some() { Cause::Rejected } else { Cause::Completed };
        }
        if view.observed.history.rejection.is_some() {
            return Cause::Rejected;
        }
        if view.pod.metadata.deletion_timestamp.is_some() {
            return Cause::Deleted;
        }
        match view.deadline() {
            Some(deadline) if deadline <= view.now => Cause::DeadlineExceeded,
            deadline => {
                self.wake_at(deadline);
                Cause::Active
            }
        }
    }

    fn op(&mut self, op: Op) {
        self.ops.push(op);
    }

    fn wait(&mut self, container: &str, reason: &str, message: impl Into<String>) {
        self.waiting.insert(container.to_owned(), (reason.to_owned(), message.into()));
    }

    /// Plans again at `time`, if not sooner. A time that has passed is no reason to wake.
    fn wake_at(&mut self, time: impl Into<Option<Timestamp>>) {
        if let Some(time) = time.into().filter(|time| *time > self.view.now) {
            self.next_wake = Some(self.next_wake.map_or(time, |wake| wake.min(time)));
        }
    }

    /// Whether a failed operation on `subject` may be tried again now; wakes when it may.
    fn may_retry(&mut self, subject: &Subject) -> bool {
        let until = self.view.observed.history.failures.get(subject).map(|failure| failure.until);
        self.wake_at(until);
        until.is_none_or(|until| until <= self.view.now)
    }

    /// Of each container the newest is kept, and the one before it for its log and exit code.
    fn collect_garbage(&mut self) {
        let names = self.view.parts.iter().map(|part| &part.container.name);
        let old: Vec<Op> = names
            .flat_map(|name| self.view.instances(name).skip(2))
            .map(|old| Op::RemoveContainer { id: old.id.clone() })
            .collect();
        if !old.is_empty() && self.may_retry(&Subject::Removal) {
            self.ops.extend(old);
        }
    }

    fn into_plan(self, cause: Cause) -> Plan {
        let status = status::compute(&self.view, &self.waiting, &cause);
        let Self { ops, notices, next_wake, stopping, .. } = self;
        Plan { ops, status, next_wake, notices, stopping }
    }
}

pub(crate) use view::{LOST_EXIT_CODE, View as PodView, exit as exit_of};

#[cfg(test)]
mod tests;
