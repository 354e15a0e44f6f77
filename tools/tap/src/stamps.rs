//! Verifies the stamps of one stream: each counter once and in order, each checksum right.

use serde::Serialize;
use vms_stamp::Stamp;

use crate::latency::Latency;

/// What was found so far.
#[derive(Debug, Clone)]
pub(crate) struct Stamps {
    /// Counter that the next unit must have; `None` at the start of a play session.
    expected: Option<u64>,
    timeline: Option<u32>,
    found: Found,
    latency: Latency,
}

/// Counts of units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Found {
    /// With a stamp whose checksum holds.
    pub(crate) good: u64,
    /// Without a stamp.
    pub(crate) missing: u64,
    /// With a stamp and other bytes than were sent.
    pub(crate) corrupt: u64,
    /// With a counter that was seen before.
    pub(crate) repeated: u64,
    /// Counters that were passed over: units that the camera sent and nobody showed us.
    pub(crate) absent: u64,
    /// How often the camera began anew. What it sent meanwhile has no counter that would tell of it.
    pub(crate) restarts: u64,
    /// Without the flag "damaged" although it should have it: without a stamp, with other bytes than were sent, or no
    /// keyframe and behind a unit that is absent.
    pub(crate) unflagged: u64,
}

impl Found {
    /// Units, or missing units, that were not as they should be.
    pub(crate) const fn errors(&self) -> u64 {
        self.missing + self.corrupt + self.repeated + self.absent
    }

    /// No unit that is not as it was sent.
    pub(crate) const fn flawless(&self) -> bool {
        self.errors() == 0
    }
}

/// When a unit was where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The producer's timeline; a new one is a new play session, whose counter starts again.
    pub(crate) timeline: u32,
    /// The producer says that it, or what it refers to, is not whole.
    pub(crate) damaged: bool,
    pub(crate) key: bool,
    /// When we had the unit, `CLOCK_MONOTONIC` ns; `None` for one from the past, which has no latency.
    pub(crate) read_mono_ns: Option<u64>,
}

impl Stamps {
    pub(crate) fn new() -> Self {
        Self { expected: None, timeline: None, found: Found::default(), latency: Latency::new() }
    }

    /// Takes the next unit of the stream into account.
    pub(crate) fn check(&mut self, stamp: Option<Stamp>, arrival: Arrival) {
        let before = self.timeline.replace(arrival.timeline);
        if before != Some(arrival.timeline) {
            self.expected = None;
            self.found.restarts += u64::from(before.is_some());
        }
        let Some(stamp) = stamp else {
            self.found.missing += 1;
            self.found.unflagged += u64::from(!arrival.damaged);
            // The unit may have had any number: the next one is taken as it is.
            self.expected = None;
            return;
        };
        if stamp.crc_ok {
            self.found.good += 1;
        } else {
            self.found.corrupt += 1;
        }
        let absent = self.found.absent;
        self.count(stamp.counter);
        let lacks_reference = self.found.absent > absent && !arrival.key;
        self.found.unflagged += u64::from(!arrival.damaged && (!stamp.crc_ok || lacks_reference));
        if let Some(read_mono_ns) = arrival.read_mono_ns {
            self.latency.record(read_mono_ns.saturating_sub(stamp.send_mono_ns));
        }
    }

    pub(crate) const fn found(&self) -> Found {
        self.found
    }

    /// From the camera's write to our read.
    pub(crate) const fn latency(&self) -> &Latency {
        &self.latency
    }

    /// As if no unit before had been timed.
    pub(crate) fn forget_latency(&mut self) {
        self.latency = Latency::new();
    }

    fn count(&mut self, counter: u64) {
        match self.expected {
            Some(expected) if counter < expected => {
                self.found.repeated += 1;
                return;
            }
            Some(expected) => self.found.absent += counter - expected,
            None => {}
        }
        self.expected = counter.checked_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Arrival = Arrival { timeline: 1, damaged: false, key: false, read_mono_ns: None };

    fn check(stamps: &mut Stamps, counter: u64, crc_ok: bool, timeline: u32) {
        let stamp = Stamp { counter, send_mono_ns: 1_000, crc_ok };
        stamps.check(Some(stamp), Arrival { timeline, read_mono_ns: Some(5_000), ..WHOLE });
    }

    #[test]
    fn in_order_across_a_new_session_is_flawless_and_a_restart() {
        let mut stamps = Stamps::new();
        (40..50).for_each(|counter| check(&mut stamps, counter, true, 1));
        (0..10).for_each(|counter| check(&mut stamps, counter, true, 2));
        assert!(stamps.found().flawless() && stamps.found().good == 20);
        assert_eq!(stamps.found().restarts, 1);
        assert_eq!(stamps.latency().percentiles().unwrap().max_us, 4.0);
    }

    #[test]
    fn each_flaw_is_counted() {
        let mut stamps = Stamps::new();
        check(&mut stamps, 0, true, 1);
        check(&mut stamps, 3, true, 1);
        check(&mut stamps, 2, true, 1);
        check(&mut stamps, 4, false, 1);
        stamps.check(None, WHOLE);
        check(&mut stamps, 9, true, 1);
        let expected =
            Found { good: 4, missing: 1, corrupt: 1, repeated: 1, absent: 2, restarts: 0, unflagged: 3 };
        assert_eq!(stamps.found(), expected);
        assert!(!expected.flawless());
    }

    #[test]
    fn what_is_flagged_or_lacks_no_reference_is_as_it_should_be() {
        let mut stamps = Stamps::new();
        check(&mut stamps, 0, true, 1);
        for (counter, crc_ok, arrival) in [
            (2, true, Arrival { damaged: true, ..WHOLE }),
            (3, false, Arrival { damaged: true, ..WHOLE }),
            (5, true, Arrival { key: true, ..WHOLE }),
        ] {
            stamps.check(Some(Stamp { counter, send_mono_ns: 1_000, crc_ok }), arrival);
        }
        stamps.check(None, Arrival { damaged: true, ..WHOLE });
        assert_eq!(stamps.found().unflagged, 0);
    }
}
