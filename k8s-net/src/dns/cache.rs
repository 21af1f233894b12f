//! Answers of others, for as long as they said. Bounded; the first to expire goes first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RData, Record, RecordType},
};

/// The most answers that are kept.
const MAX_ANSWERS: usize = 1024;
/// Larger answers are not kept: this many records.
const MAX_RECORDS: usize = 64;
/// However long they said, answers are kept no longer than this; and this, if there is nothing. In seconds.
const MAX_TTL: u32 = 300;
const MAX_NEGATIVE_TTL: u32 = 30;

/// What was asked, as far as the answer depends on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// In lower case.
    pub(super) name: Name,
    pub(super) kind: RecordType,
    /// Whether signatures are wanted, and whether they shall not be checked.
    pub(super) signed: bool,
    pub(super) trusting: bool,
}

/// What somebody else answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
}

impl Told {
    /// For how many seconds it holds; `None` if it is not worth keeping.
    fn ttl(&self) -> Option<u32> {
        let records = || self.answers.iter().chain(&self.authorities);
        if records().count() > MAX_RECORDS {
            return None;
        }
        let shortest = records().map(|record| record.ttl).min();
        let ttl = match self.code {
            ResponseCode::NoError if !self.answers.is_empty() => shortest?.min(MAX_TTL),
            ResponseCode::NoError | ResponseCode::NXDomain => {
                let minimum = self.authorities.iter().find_map(|record| match &record.data {
                    RData::SOA(start) => Some(start.minimum),
                    _ => None,
                });
                minimum?.min(shortest?).min(MAX_NEGATIVE_TTL)
            }
            _ => return None,
        };
        (ttl > 0).then_some(ttl)
    }

    fn aged(&self, seconds: u32) -> Self {
        let mut aged = self.clone();
        for record in aged.answers.iter_mut().chain(&mut aged.authorities) {
            record.ttl = record.ttl.saturating_sub(seconds);
        }
        aged
    }
}

/// Answers by question.
#[derive(Debug, Default)]
pub(super) struct Cache {
    kept: BTreeMap<Key, Kept>,
    /// Invariant: holds exactly the expiry and key of each answer in `kept`.
    by_expiry: BTreeSet<(Duration, Key)>,
}

#[derive(Debug)]
struct Kept {
    told: Arc<Told>,
    since: Duration,
    until: Duration,
}

impl Cache {
    /// The answer as of `now`, if it still holds. Its records have the time that is left to them.
    pub(super) fn get(&self, key: &Key, now: Duration) -> Option<Told> {
        let kept = self.kept.get(key).filter(|kept| now < kept.until)?;
        let age = now.saturating_sub(kept.since).as_secs();
        Some(kept.told.aged(u32::try_from(age).unwrap_or(u32::MAX)))
    }

    /// Keeps an answer that came `now`, in place of the one before.
    pub(super) fn put(&mut self, key: Key, told: Arc<Told>, now: Duration) {
        let Some(ttl) = told.ttl() else { return };
        self.remove(&key);
        while self.kept.len() >= MAX_ANSWERS {
            let Some((_, oldest)) = self.by_expiry.first().cloned() else { break };
            self.remove(&oldest);
        }
        let until = now + Duration::from_secs(ttl.into());
        self.by_expiry.insert((until, key.clone()));
        self.kept.insert(key, Kept { told, since: now, until });
    }

    fn remove(&mut self, key: &Key) {
        if let Some(kept) = self.kept.remove(key) {
            self.by_expiry.remove(&(kept.until, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn key(name: &str) -> Key {
        Key { name: Name::from_str(name).unwrap(), kind: RecordType::A, signed: false, trusting: false }
    }

    fn address(ttl: u32) -> Arc<Told> {
        let data = RData::A(std::net::Ipv4Addr::LOCALHOST.into());
        let answers = vec![Record::from_rdata(Name::from_str("a.test.").unwrap(), ttl, data)];
        Arc::new(Told { code: ResponseCode::NoError, answers, authorities: vec![] })
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn an_answer_ages_and_ends() {
        let mut cache = Cache::default();
        cache.put(key("a.test."), address(60), seconds(100));
        assert_eq!(cache.get(&key("a.test."), seconds(130)).unwrap().answers[0].ttl, 30);
        assert_eq!(cache.get(&key("a.test."), seconds(160)), None);
        assert_eq!(cache.get(&key("b.test."), seconds(100)), None);
        cache.put(key("long.test."), address(86_400), seconds(0));
        assert_eq!(cache.get(&key("long.test."), seconds(u64::from(MAX_TTL))), None);
        cache.put(key("never.test."), address(0), seconds(0));
        assert_eq!(cache.get(&key("never.test."), seconds(0)), None);
    }

    #[test]
    fn the_first_to_expire_makes_room() {
        let mut cache = Cache::default();
        for number in 0..MAX_ANSWERS {
            cache.put(key(&format!("{number}.test.")), address(if number == 7 { 1 } else { 60 }), seconds(0));
        }
        cache.put(key("one-more.test."), address(60), seconds(0));
        assert_eq!((cache.kept.len(), cache.by_expiry.len()), (MAX_ANSWERS, MAX_ANSWERS));
        assert_eq!(cache.get(&key("7.test."), seconds(0)), None);
        assert!(cache.get(&key("one-more.test."), seconds(0)).is_some());
    }
}
