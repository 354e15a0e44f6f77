//! Which faults hold on which camera, now and next.

use super::kind::{Act, Kind, Life, On};
use super::spec::Fault;
use crate::answer::{Answer, Ask};
use crate::player::Source;
use crate::rng::Rng;
use crate::rtcp::Reports;
use crate::wire::Wire;

/// All faults that were asked for.
///
/// Invariant: `active[camera]` holds what the entries that are running say about the camera, in their order.
#[derive(Debug)]
pub(crate) struct Plan {
    entries: Vec<Entry>,
    active: Vec<Active>,
}

#[derive(Debug)]
struct Entry {
    fault: Fault,
    cameras: Vec<usize>,
    running: bool,
    /// When it begins or, if it is running, ends next.
    next_ns: Option<u64>,
    /// When it began last, or will begin first.
    began_ns: u64,
}

/// A fault has begun or ended on a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) camera: usize,
    /// Without cameras and times.
    pub(crate) fault: String,
    pub(crate) life: Option<Life>,
    pub(crate) begins: bool,
}

impl Plan {
    pub(crate) fn new(cameras: usize) -> Self {
        Self { entries: Vec::new(), active: vec![Active::default(); cameras] }
    }

    /// Adds a fault for `cameras` whose times count from `origin_ns`. It begins with the next [`Self::advance`].
    pub(crate) fn add(&mut self, fault: Fault, cameras: Vec<usize>, origin_ns: u64) {
        let began_ns = origin_ns.saturating_add(fault.times.start_ns);
        self.entries.push(Entry { fault, cameras, running: false, next_ns: Some(began_ns), began_ns });
    }

    /// Ends the faults of `cameras` and forgets those to come; with `name`, only those called so.
    pub(crate) fn clear(&mut self, cameras: &[usize], name: Option<&str>) -> Vec<Change> {
        let mut changes = Vec::new();
        for entry in &mut self.entries {
            if name.is_some_and(|name| name != entry.fault.kind.name) {
                continue;
            }
            let (gone, kept): (Vec<usize>, Vec<usize>) =
                entry.cameras.iter().copied().partition(|camera| cameras.contains(camera));
            entry.cameras = kept;
            if entry.running {
                changes.extend(entry.changes(&gone, false));
            }
        }
        self.entries.retain(|entry| !entry.cameras.is_empty());
        self.collect();
        changes
    }

    /// When [`Self::advance`] has something to do.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.entries.iter().filter_map(|entry| entry.next_ns).min()
    }

    /// Begins and ends what is due.
    pub(crate) fn advance(&mut self, now_ns: u64) -> Vec<Change> {
        if self.next_ns().is_none_or(|next_ns| next_ns > now_ns) {
            return Vec::new();
        }
        let mut changes = Vec::new();
        for entry in &mut self.entries {
            // Two steps at most: what was missed while nobody called is not made up for.
            for _ in 0..2 {
                if entry.next_ns.is_some_and(|next_ns| next_ns <= now_ns) {
                    changes.extend(entry.step(now_ns));
                }
            }
        }
        self.entries.retain(|entry| entry.running || entry.next_ns.is_some());
        self.collect();
        changes
    }

    /// What holds on a camera. Nothing does on one that there is not.
    pub(crate) fn of(&self, camera: Option<usize>) -> &Active {
        camera.and_then(|camera| self.active.get(camera)).unwrap_or(&NONE)
    }

    /// Whether this holds on all cameras.
    pub(crate) fn all(&self, holds: impl Fn(&Active) -> bool) -> bool {
        self.active.iter().all(holds)
    }

    fn collect(&mut self) {
        self.active.fill(Active::default());
        for entry in self.entries.iter().filter(|entry| entry.running && !entry.fault.kind.is_momentary()) {
            for camera in &entry.cameras {
                self.active[*camera].0.push((entry.fault.kind, entry.fault.value));
            }
        }
    }
}

impl Entry {
    /// Begins or ends; what is over at once does both.
    fn step(&mut self, now_ns: u64) -> Vec<Change> {
        let times = self.fault.times;
        self.running = !self.running;
        if self.running {
            self.began_ns = self.next_ns.unwrap_or(now_ns);
            self.next_ns = times.duration_ns.map(|duration_ns| self.began_ns.saturating_add(duration_ns));
        } else {
            self.next_ns = times.every_ns.map(|every_ns| {
                let missed = (now_ns - self.began_ns) / every_ns;
                self.began_ns.saturating_add(every_ns.saturating_mul(missed + 1))
            });
            if self.fault.kind.is_momentary() {
                return Vec::new();
            }
        }
        self.changes(&self.cameras, self.running)
    }

    fn changes(&self, cameras: &[usize], begins: bool) -> Vec<Change> {
        let fault = self.fault.to_string();
        let life = if let Act::Life(life) = self.fault.kind.act { Some(life) } else { None };
        cameras.iter().map(|&camera| Change { camera, fault: fault.clone(), life, begins }).collect()
    }
}

/// The faults that hold on one camera, and their values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Active(Vec<(&'static Kind, u64)>);

/// Of a camera that behaves.
pub(crate) static NONE: Active = Active(Vec::new());

impl Active {
    /// The value of a fault that holds.
    pub(crate) fn life(&self, wanted: Life) -> Option<u64> {
        self.0
            .iter()
            .find(|(kind, _)| matches!(kind.act, Act::Life(life) if life == wanted))
            .map(|found| found.1)
    }

    /// Nobody gets in.
    pub(crate) fn refuses(&self) -> bool {
        self.life(Life::Refuse).or(self.life(Life::PowerCut)).is_some()
    }

    /// Bends the answer to a request of the kind `on`.
    pub(crate) fn bend_answer(&self, on: Option<On>, ask: &Ask<'_>, answer: &mut Answer) {
        for (kind, value) in &self.0 {
            if let Act::Answer(which, bend) = kind.act
                && (which == On::Any || Some(which) == on)
            {
                bend(&Ask { value: *value, ..*ask }, answer);
            }
        }
    }

    /// Bends a stream that begins.
    pub(crate) fn bend_start(&self, source: &mut Source) {
        for (kind, _) in &self.0 {
            if let Act::Start(bend) = kind.act {
                bend(source);
            }
        }
    }

    /// Bends the stream before unit `number`.
    pub(crate) fn bend_source(&self, number: u64, source: &mut Source, rng: &mut Rng) {
        for (kind, value) in &self.0 {
            if let Act::Source(bend) = kind.act
                && is_nth(number, *value)
            {
                bend(source, rng);
            }
        }
    }

    /// Whether units are not sent as they are.
    pub(crate) fn bends_units(&self) -> bool {
        self.0.iter().any(|(kind, _)| kind.bends_units())
    }

    /// Bends the packets of a unit.
    pub(crate) fn bend_unit(&self, wire: &mut Wire<'_>) {
        for (kind, value) in &self.0 {
            wire.value = *value;
            if let Act::Unit(bend) = kind.act {
                bend(wire);
            }
            if let Act::Nth(bend) = kind.act
                && is_nth(wire.number, *value)
            {
                bend(wire);
            }
        }
    }

    /// Bends what is reported.
    pub(crate) fn bend_reports(&self, reports: &mut Reports) {
        for (kind, _) in &self.0 {
            if let Act::Report(bend) = kind.act {
                bend(reports);
            }
        }
    }
}

/// Units are counted from 0: `value` of them are left alone first.
pub(crate) const fn is_nth(number: u64, value: u64) -> bool {
    number > 0 && number.is_multiple_of(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NS_PER_SECOND;

    fn plan(faults: &[&str]) -> Plan {
        let mut plan = Plan::new(3);
        for text in faults {
            plan.add(text.parse().unwrap(), vec![0, 2], 0);
        }
        plan
    }

    fn seconds(seconds: u64) -> u64 {
        seconds * NS_PER_SECOND
    }

    #[test]
    fn a_fault_holds_from_its_start_to_its_end() {
        let mut plan = plan(&["stall@2s+3s"]);
        assert!(plan.advance(seconds(1)).is_empty() && plan.of(Some(0)).life(Life::Stall).is_none());
        let begins = plan.advance(seconds(2));
        assert_eq!(
            begins.iter().map(|change| (change.camera, change.begins)).collect::<Vec<_>>(),
            [(0, true), (2, true)]
        );
        assert!(plan.of(Some(0)).life(Life::Stall).is_some() && plan.of(Some(1)).life(Life::Stall).is_none());
        assert_eq!(plan.next_ns(), Some(seconds(5)));
        assert_eq!(plan.advance(seconds(5)).iter().filter(|change| !change.begins).count(), 2);
        assert!(plan.of(Some(0)).life(Life::Stall).is_none() && plan.next_ns().is_none());
    }

    #[test]
    fn it_comes_back_in_step_however_late_we_are() {
        let mut plan = plan(&["stall@1s+1s/10s"]);
        for start in [1, 11, 21] {
            assert_eq!(plan.next_ns(), Some(seconds(start)));
            assert!(plan.advance(seconds(start)).iter().all(|change| change.begins));
            plan.advance(seconds(start + 1));
        }
        // A minute and a half without a turn: begun and ended at once, and on in step.
        plan.advance(seconds(98));
        plan.advance(seconds(98));
        assert_eq!(plan.next_ns().map(|next| next % seconds(10)), Some(seconds(1)));
        assert!(plan.next_ns() > Some(seconds(98)));
    }

    #[test]
    fn a_moment_begins_only() {
        let mut plan = plan(&["reset@1s/2s"]);
        for second in [1, 3, 5] {
            let changes = plan.advance(seconds(second));
            assert!(changes.len() == 2 && changes.iter().all(|change| change.begins), "{changes:?}");
            assert!(plan.of(Some(0)).life(Life::Reset).is_none());
        }
    }

    #[test]
    fn many_hold_at_once_and_can_be_cleared() {
        let mut plan = plan(&["stall", "lose=7", "refuse@9s"]);
        plan.advance(0);
        assert!(plan.of(Some(0)).bends_units() && plan.of(Some(0)).life(Life::Stall).is_some());
        assert_eq!(plan.clear(&[0], Some("lose")).len(), 1);
        assert!(!plan.of(Some(0)).bends_units() && plan.of(Some(2)).bends_units());
        assert_eq!(plan.clear(&[0, 1, 2], None).len(), 3);
        assert_eq!(plan.next_ns(), None);
    }
}
