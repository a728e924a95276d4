//! What is known of all probes, for the pages, the metrics and the file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::history::History;
use super::record::Record;
use super::verdict::{Change, Verdict};
use crate::outcome::Outcome;
use crate::plan::MOST_PROBES;
use crate::subject::Subject;

/// The records of all probes, by name. There are as many as probes, of which a plan has
/// [`MOST_PROBES`] at most.
#[derive(Debug, Default)]
pub struct Board {
    records: Mutex<BTreeMap<String, Record>>,
    /// Days of probes that there are no more, or not yet: from the file, or of a map that came
    /// back. No more than [`MOST_PROBES`].
    others: Mutex<BTreeMap<String, History>>,
}

impl Board {
    /// A board that knows these days already.
    #[must_use]
    pub fn with_histories(histories: BTreeMap<String, History>) -> Self {
        let mut others = histories;
        while others.len() > MOST_PROBES {
            others.pop_last();
        }
        Self {
            records: Mutex::default(),
            others: Mutex::new(others),
        }
    }

    /// Adds a record, or begins it anew. Its day is kept, and what is held to be true of it: whoever
    /// was told that it is bad is to hear when it is good again.
    pub(super) fn put(&self, name: &str, interval: std::time::Duration, subject: Arc<Subject>) {
        let mut records = self.records();
        let (history, verdict) = match records.remove(name) {
            Some(old) => (old.history, old.verdict),
            None => {
                let history = self.others().remove(name);
                (history.unwrap_or_default(), Verdict::default())
            }
        };
        let new = Record::new(interval, subject, history);
        records.insert(name.to_owned(), Record { verdict, ..new });
    }

    /// Takes a record away; its day is kept for a while. What this changes for whoever was told of
    /// it.
    pub(super) fn remove(&self, now: SystemTime, name: &str) -> Option<Change> {
        let old = self.records().remove(name)?;
        let mut others = self.others();
        others.insert(name.to_owned(), old.history);
        while others.len() > MOST_PROBES {
            others.pop_first();
        }
        old.verdict.end(now)
    }

    /// Notes that a run begins.
    pub(super) fn begin(&self, name: &str, now: SystemTime) {
        if let Some(record) = self.records().get_mut(name) {
            record.begin(now);
        }
    }

    /// Notes how it ended, unless the probe is another one by now; what this changes.
    pub(super) fn end(&self, now: SystemTime, outcome: Outcome, runs: u32) -> Option<Change> {
        let mut records = self.records();
        let record = records.get_mut(&outcome.name)?;
        if !Arc::ptr_eq(&record.subject, &outcome.subject) {
            return None;
        }
        record.end(now, outcome, runs)
    }

    /// Shows all records. Whoever looks should not take long.
    pub fn look<T>(&self, look: impl FnOnce(&BTreeMap<String, Record>) -> T) -> T {
        look(&self.records())
    }

    /// Shows one record.
    pub fn look_at<T>(&self, name: &str, look: impl FnOnce(&Record) -> T) -> Option<T> {
        self.records().get(name).map(look)
    }

    /// The days of all probes, for the file.
    #[must_use]
    pub fn histories(&self) -> BTreeMap<String, History> {
        let records = self.records();
        let of_records = records
            .iter()
            .map(|(name, record)| (name.clone(), record.history.clone()));
        let mut histories: BTreeMap<_, _> = of_records.collect();
        drop(records);
        histories.retain(|_, history| !history.is_empty());
        histories
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        // Nothing is left half done where the lock is held.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn others(&self) -> MutexGuard<'_, BTreeMap<String, History>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::verdict::Now;
    use super::*;
    use crate::outcome::Findings;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn bad(name: &str, subject: &Arc<Subject>) -> Outcome {
        Outcome {
            name: name.to_owned(),
            subject: Arc::clone(subject),
            took: INTERVAL,
            result: Err("no answer".to_owned()),
            findings: Findings::default(),
        }
    }

    #[test]
    fn a_day_outlives_a_map_that_was_without_its_relay() {
        let board = Board::default();
        let subject = Arc::new(Subject::map());
        board.put("a", INTERVAL, Arc::clone(&subject));
        board.end(SystemTime::UNIX_EPOCH, bad("a", &subject), 2);
        board.remove(SystemTime::UNIX_EPOCH, "a");
        assert!(board.look(BTreeMap::is_empty));
        board.put("a", INTERVAL, subject);
        let pieces = board.look_at("a", |record| {
            (record.history.pieces().len(), record.last.clone())
        });
        assert_eq!(pieces, Some((1, None)));
    }

    #[test]
    fn whoever_heard_that_a_probe_is_bad_hears_how_that_ended() {
        let epoch = SystemTime::UNIX_EPOCH;
        let board = Board::default();
        let put = || {
            let subject = Arc::new(Subject::map());
            board.put("a", INTERVAL, Arc::clone(&subject));
            subject
        };
        let now = |change: Option<Change>| change.map(|change| change.now);
        let old = put();
        assert_eq!(now(board.end(epoch, bad("a", &old), 1)), Some(Now::Bad));
        // The map's change is what mends it.
        let mended = Outcome {
            result: Ok(()),
            ..bad("a", &put())
        };
        assert_eq!(now(board.end(epoch, mended, 1)), Some(Now::Good));
        assert_eq!(now(board.remove(epoch, "a")), None);
        let again = put();
        assert_eq!(now(board.end(epoch, bad("a", &again), 1)), Some(Now::Bad));
        assert_eq!(now(board.remove(epoch, "a")), Some(Now::Gone));
        assert_eq!(now(board.remove(epoch, "a")), None);
    }

    #[test]
    fn what_an_earlier_probe_of_the_name_found_is_not_the_new_ones() {
        let board = Board::default();
        let old = Arc::new(Subject::map());
        board.put("a", INTERVAL, Arc::clone(&old));
        board.put("a", INTERVAL, Arc::new(Subject::map()));
        board.end(SystemTime::UNIX_EPOCH, bad("a", &old), 2);
        assert_eq!(board.look_at("a", |record| record.last.clone()), Some(None));
    }
}
