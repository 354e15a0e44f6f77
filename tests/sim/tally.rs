//! What runs have come by: whether all that can happen did, and whether two runs did the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use vms_media::ingest::{Reason, State, Status};

use crate::conduct::Misdeed;
use crate::model::Failure;

/// Over any number of runs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How often each state was entered for each reason, by their names.
    pub(crate) states: BTreeMap<(String, String), u64>,
    pub(crate) deeds: BTreeSet<Misdeed>,
    /// Waits in percent of what they are drawn around: the shortest and the longest.
    pub(crate) wait_percent: Option<(f64, f64)>,
    pub(crate) units: u64,
    pub(crate) damaged: u64,
    pub(crate) taken: u64,
    pub(crate) missed: u64,
    pub(crate) heap_most: i64,
    pub(crate) events: u64,
}

impl Tally {
    pub(crate) fn note_state(&mut self, status: &Status) {
        *self.states.entry(names(status.state, status.reason)).or_default() += 1;
    }

    pub(crate) fn note_deeds(&mut self, deeds: &[Misdeed]) {
        self.deeds.extend(deeds);
    }

    pub(crate) fn note_failure(&mut self, failure: Failure) {
        let percent = failure.wait_percent;
        let (least, most) = self.wait_percent.unwrap_or((percent, percent));
        self.wait_percent = Some((least.min(percent), most.max(percent)));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (names, count) in &other.states {
            *self.states.entry(names.clone()).or_default() += count;
        }
        self.deeds.extend(&other.deeds);
        if let Some((least, most)) = other.wait_percent {
            let (before_least, before_most) = self.wait_percent.unwrap_or((least, most));
            self.wait_percent = Some((before_least.min(least), before_most.max(most)));
        }
        self.units += other.units;
        self.damaged += other.damaged;
        self.taken += other.taken;
        self.missed += other.missed;
        self.heap_most = self.heap_most.max(other.heap_most);
        self.events += other.events;
    }

    pub(crate) fn count(&self, state: State, reason: Reason) -> u64 {
        self.states.get(&names(state, reason)).copied().unwrap_or(0)
    }
}

fn names(state: State, reason: Reason) -> (String, String) {
    (format!("{state:?}"), format!("{reason:?}"))
}

/// A number that tells two courses of events apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digest(DefaultHasher);

impl Digest {
    pub(crate) fn add(&mut self, what: &impl Hash) {
        what.hash(&mut self.0);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.finish()
    }
}
