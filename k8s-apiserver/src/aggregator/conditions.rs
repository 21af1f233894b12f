//! The condition `Available` of an APIService, under upstream's reasons.

use k8s_core::{doc, doc::Doc, env::Timestamp};

/// What is found about one APIService.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub available: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    pub fn local() -> Self {
        let message = "Local APIServices are always available".into();
        Self { available: true, reason: "Local", message }
    }

    pub fn passed() -> Self {
        Self { available: true, reason: "Passed", message: "all checks passed".into() }
    }

    pub fn failed(reason: &'static str, message: impl Into<String>) -> Self {
        Self { available: false, reason, message: message.into() }
    }

    /// Writes the condition into a status, unless it says so already. The time of transition moves with the status alone.
    pub fn write(&self, object: &mut Doc, now: Timestamp) -> bool {
        let conditions = object.at(&["status", "conditions"]).map_or(&[][..], Doc::items);
        let is_ours = |condition: &Doc| condition.str_at(&["type"]) == "Available";
        let before = conditions.iter().find(|condition| is_ours(condition));
        let status = if self.available { "True" } else { "False" };
        let same = before.is_some_and(|before| {
            before.str_at(&["status"]) == status
                && before.str_at(&["reason"]) == self.reason
                && before.str_at(&["message"]) == self.message
        });
        if same {
            return false;
        }
        let since = before.filter(|before| before.str_at(&["status"]) == status);
        let since = since.map(|before| before.str_at(&["lastTransitionTime"]).to_owned());
        let since = since.unwrap_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let ours = doc!({
            "type": "Available", "status": status, "lastTransitionTime": since,
            "reason": self.reason, "message": self.message.as_str()
        });
        let others = conditions.iter().filter(|condition| !is_ours(condition)).cloned();
        let all: Vec<Doc> = others.chain([ours]).collect();
        object.set_at(&["status", "conditions"], Doc::Array(all));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_moves_with_the_status_alone() {
        let (mut object, at) = (doc!({}), |second: i64| Timestamp::from_second(second).unwrap());
        let since = |object: &Doc| object.str_at(&["status", "conditions", "0", "lastTransitionTime"]).to_owned();
        assert!(Verdict::failed("ServiceNotFound", "no").write(&mut object, at(0)));
        assert_eq!(since(&object), "1970-01-01T00:00:00Z");
        assert!(!Verdict::failed("ServiceNotFound", "no").write(&mut object, at(1)), "nothing new");
        assert!(Verdict::failed("EndpointsNotFound", "none").write(&mut object, at(2)));
        assert_eq!(since(&object), "1970-01-01T00:00:00Z");
        assert!(Verdict::passed().write(&mut object, at(3)));
        assert_eq!(since(&object), "1970-01-01T00:00:03Z");
        assert_eq!(object.at(&["status", "conditions"]).map(|all| all.items().len()), Some(1));
    }
}
