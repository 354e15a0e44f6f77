//! What `vms-tap` keeps of one stream.

use std::io;

use ring_abi::consumer::{Configuration, Counts, Retry, StreamKey};
use ring_abi::join::From;
use ring_abi::layout::{Codec, Descriptor, Flags, RECORD_ACCESS_UNIT};

use crate::elementary::Elementary;
use crate::latency::Latency;
use crate::stamps::{Arrival, Stamps};
use crate::summary::StreamSummary;
use crate::unit::CopiedUnit;

/// One attached stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: String,
    /// `None` when its ring has ended.
    pub(crate) key: Option<StreamKey>,
    elementary: Option<Elementary>,
    /// `None` without `--stamp`.
    stamps: Option<Stamps>,
    units: u64,
    bytes: u64,
    keyframes: u64,
    damaged: u64,
    /// `seq` and `filtered` of the newest unit.
    newest: Option<(u64, u64)>,
    /// `pub_mono_ns` of the first and the newest unit, and the length of the first.
    published: Option<Published>,
    /// What the reader counted, once it is no longer asked.
    pub(crate) counts: Counts,
    /// What it counted in earlier attachments.
    before: Counts,
    /// Of the newest attachment, and the number of the last unit.
    last: Option<(u64, u64)>,
    epoch: u64,
    /// When it is to be attached again, and how often that has failed.
    pub(crate) due_ns: u64,
    pub(crate) retry: Retry,
}

#[derive(Debug, Clone, Copy)]
struct Published {
    first_ns: u64,
    last_ns: u64,
    first_len: u64,
}

impl Stream {
    /// A stream that is not attached yet.
    pub(crate) fn new(id: String, elementary: Option<Elementary>, stamped: bool) -> Self {
        Self {
            id,
            key: None,
            elementary,
            stamps: stamped.then(Stamps::new),
            units: 0,
            bytes: 0,
            keyframes: 0,
            damaged: 0,
            newest: None,
            published: None,
            counts: Counts::default(),
            before: Counts::default(),
            last: None,
            epoch: 0,
            due_ns: 0,
            retry: Retry::default(),
        }
    }

    /// Where to attach: behind the last unit that was read, or where the options say.
    pub(crate) fn entry(&self, first: From) -> From {
        self.last.map_or(first, |(epoch, seq)| From::After { epoch, seq })
    }

    /// It is attached, and of this epoch; whether that is another than before.
    pub(crate) fn attached(&mut self, key: StreamKey, epoch: u64) -> bool {
        self.key = Some(key);
        self.retry.succeeded();
        let is_other = std::mem::replace(&mut self.epoch, epoch) != epoch;
        if is_other {
            // The numbers of another stream have nothing to do with those before.
            self.newest = None;
        }
        is_other
    }

    /// It is not attached any more, and these are the counts of that time.
    pub(crate) fn detached(&mut self, counts: Counts) {
        self.key = None;
        self.before = self.before.and(counts);
        self.counts = Counts::default();
    }

    /// Counts and verifies a unit.
    pub(crate) fn count(&mut self, unit: &CopiedUnit, codec: Option<Codec>) {
        let descriptor = &unit.descriptor;
        let len = u64::from(descriptor.len);
        self.units += 1;
        self.bytes += len;
        self.keyframes += u64::from(descriptor.has(Flags::KEY));
        self.damaged += u64::from(descriptor.has(Flags::DAMAGED));
        let at_ns = descriptor.pub_mono_ns;
        let published =
            self.published.get_or_insert(Published { first_ns: at_ns, last_ns: at_ns, first_len: len });
        published.last_ns = at_ns;

        let Some(stamps) = &mut self.stamps else { return };
        if descriptor.record_type != RECORD_ACCESS_UNIT {
            return;
        }
        let arrival = Arrival {
            timeline: descriptor.timeline,
            damaged: descriptor.has(Flags::DAMAGED),
            key: descriptor.has(Flags::KEY),
            read_mono_ns: (!descriptor.has(Flags::BACKFILL)).then_some(unit.read_mono_ns),
        };
        stamps.check(codec.and_then(|codec| find_stamp(&unit.payload, codec)), arrival);
    }

    /// Notes a unit's number; how many are missing between the unit before and this one.
    pub(crate) fn gap(&mut self, descriptor: &Descriptor) -> u64 {
        let (seq, filtered) = (descriptor.seq, descriptor.filtered);
        self.last = Some((self.epoch, seq));
        let before = self.newest.replace((seq, filtered));
        before.map_or(0, |(before, filtered_before)| {
            seq.saturating_sub(before)
                .saturating_sub(1)
                .saturating_sub(filtered.saturating_sub(filtered_before))
        })
    }

    /// Writes a unit to the stream's file, if it has one.
    pub(crate) fn write(
        &mut self,
        unit: &CopiedUnit,
        configuration: Option<&Configuration>,
    ) -> io::Result<()> {
        self.elementary.as_mut().map_or(Ok(()), |file| file.write(&unit.payload, configuration))
    }

    /// Makes sure that the file holds everything.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.elementary.as_mut().map_or(Ok(()), Elementary::flush)
    }

    /// With `--stamp`: from the camera's write to our read.
    pub(crate) fn latency(&self) -> Option<&Latency> {
        self.stamps.as_ref().map(Stamps::latency)
    }

    /// Counts latencies from here on; everything else goes on as it was.
    pub(crate) fn forget_latency(&mut self) {
        if let Some(stamps) = &mut self.stamps {
            stamps.forget_latency();
        }
    }

    pub(crate) fn summary(&self) -> StreamSummary {
        let (seconds, first_len) = self.published.map_or((0.0, 0), |published| {
            (seconds(published.last_ns.saturating_sub(published.first_ns)), published.first_len)
        });
        // Rates are over the intervals between units, so the first one opens an interval and fills none.
        let rate = |amount: u64| if seconds > 0.0 { round(number(amount) / seconds) } else { 0.0 };
        let counts = self.before.and(self.counts);
        StreamSummary {
            id: self.id.clone(),
            units: self.units,
            bytes: self.bytes,
            keyframes: self.keyframes,
            fps: rate(self.units.saturating_sub(1)),
            bitrate: rate((self.bytes - first_len) * 8),
            lost: counts.lost,
            rejected: counts.rejected,
            skipped: counts.skipped,
            filtered: counts.filtered,
            damaged: self.damaged,
            stamps: self.stamps.as_ref().map(Stamps::found),
            latency: self.latency().and_then(Latency::percentiles),
        }
    }
}

fn find_stamp(payload: &[u8], codec: Codec) -> Option<vms_stamp::Stamp> {
    let codec = match codec {
        Codec::H264 => vms_stamp::Codec::H264,
        Codec::H265 => vms_stamp::Codec::H265,
        Codec::Unknown => return None,
    };
    vms_stamp::find(payload, codec)
}

fn seconds(ns: u64) -> f64 {
    number(ns) / 1e9
}

/// Two decimals are all that a rate is worth.
fn round(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "rates are rounded anyway")]
const fn number(amount: u64) -> f64 {
    amount as f64
}
