//! What the server enters by itself: who asked, and when something turned.

use k8s_core::{doc, doc::Doc};

use super::{operation::Operation, time::rfc3339};

impl Operation<'_> {
    /// What a new object is told by the server. A signing request says who asks: the caller, whatever was sent.
    pub(super) fn stamp_new(&self, new: &mut Doc) {
        if !self.is_signing_request() {
            return;
        }
        let caller = self.caller;
        let mut extra = Doc::object();
        for (key, values) in &caller.extra {
            extra.set_at(&[key], Doc::from(values.clone()));
        }
        new.set_at(&["spec", "username"], caller.name.clone().into());
        for (field, value) in [
            ("uid", Some(Doc::from(caller.uid.clone())).filter(|_| !caller.uid.is_empty())),
            ("groups", Some(Doc::from(caller.groups.clone())).filter(|_| !caller.groups.is_empty())),
            ("extra", Some(extra).filter(|_| !caller.extra.is_empty())),
        ] {
            match value {
                Some(value) => new.set_at(&["spec", field], value),
                None => drop(new.remove_at(&["spec", field])),
            }
        }
    }

    /// The times of what changed, where the writer left them to the server.
    pub(super) fn stamp_change(&self, new: &mut Doc, old: &Doc) {
        if self.is_signing_request() {
            self.stamp_conditions(new, old);
        }
        if self.info.group.is_empty() && self.info.plural == "persistentvolumes" {
            const TIME: [&str; 2] = ["status", "lastPhaseTransitionTime"];
            let phase = |doc: &Doc| doc.str_at(&["status", "phase"]).to_owned();
            if phase(new) != phase(old) && new.at(&TIME) == old.at(&TIME) {
                new.set_at(&TIME, rfc3339(self.server.env.now()).into());
            }
        }
    }

    fn is_signing_request(&self) -> bool {
        self.info.group == "certificates.k8s.io" && self.info.plural == "certificatesigningrequests"
    }

    fn stamp_conditions(&self, new: &mut Doc, old: &Doc) {
        let now = rfc3339(self.server.env.now());
        let former = old.at(&["status", "conditions"]).map_or(&[][..], Doc::items);
        let Some(conditions) = new.at_mut(&["status", "conditions"]) else { return };
        for condition in conditions.items_mut() {
            let is_unset = |condition: &Doc, field: &str| condition.str_at(&[field]).is_empty();
            if is_unset(condition, "lastUpdateTime") {
                condition.set_at(&["lastUpdateTime"], doc!(now.as_str()));
            }
            let same = |other: &&Doc| ["type", "status"].iter().all(|field| other.get(field) == condition.get(field));
            let before = former.iter().find(same).and_then(|before| before.get("lastTransitionTime")).cloned();
            if is_unset(condition, "lastTransitionTime") {
                condition.set_at(&["lastTransitionTime"], before.unwrap_or_else(|| now.as_str().into()));
            }
        }
    }
}
