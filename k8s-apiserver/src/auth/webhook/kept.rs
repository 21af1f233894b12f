//! Answers that are kept for a while.

use std::{collections::BTreeMap, time::Duration};

/// How many answers are kept at most; the one that would have ended first makes room.
const MAX: usize = 8192;

/// Answers by question. Time is the environment's monotonic one.
pub struct Kept<V> {
    answers: BTreeMap<Vec<u8>, (Duration, V)>,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self { answers: BTreeMap::new() }
    }
}

impl<V: Clone> Kept<V> {
    /// The answer, if it is still good.
    pub fn get(&self, question: &[u8], now: Duration) -> Option<V> {
        self.answers.get(question).filter(|(until, _)| now < *until).map(|(_, answer)| answer.clone())
    }

    /// Keeps an answer until `until`.
    pub fn keep(&mut self, question: Vec<u8>, now: Duration, until: Duration, answer: V) {
        if until <= now {
            return;
        }
        if self.answers.len() >= MAX {
            self.answers.retain(|_, (until, _)| now < *until);
        }
        if self.answers.len() >= MAX {
            let first = self.answers.iter().min_by_key(|(_, (until, _))| *until).map(|(question, _)| question.clone());
            first.map(|question| self.answers.remove(&question));
        }
        self.answers.insert(question, (until, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_and_make_room() {
        let (mut kept, second) = (Kept::default(), Duration::from_secs);
        kept.keep(b"first".to_vec(), second(0), second(1), 0);
        assert_eq!((kept.get(b"first", second(0)), kept.get(b"first", second(1))), (Some(0), None));
        for number in 0..MAX as u64 {
            kept.keep(number.to_be_bytes().to_vec(), second(2), second(10 + number), 1);
        }
        assert_eq!(kept.answers.len(), MAX);
        kept.keep(b"last".to_vec(), second(2), second(5), 2);
        assert_eq!((kept.answers.len(), kept.get(b"last", second(2))), (MAX, Some(2)));
        assert_eq!(kept.get(&0u64.to_be_bytes(), second(2)), None, "it would have ended first");
        kept.keep(b"none".to_vec(), second(2), second(2), 3);
        assert_eq!(kept.get(b"none", second(2)), None, "not kept at all");
    }
}
