//! Feeding a reader: joining, back-fill, lag, resume and live are one path over the tracks' indexes.
//!
//! A reader is a place in each track's index. Every call takes it forward, at most [`FEED_MAX`] units, as long as its ring has
//! room; tracks are merged by sequence number. Units that were overwritten before the reader got there are a loss that
//! the reader computes from the next unit's `seq`.

use super::index::Entry;
use super::ring::{Gate, ReaderRing, RoomError};
use super::track::Track;
use crate::join::{Damaged, From};
use crate::layout::{Class, EndReason, Record, RingState, TrackKind};

/// Units examined for one reader in one call.
pub(crate) const FEED_MAX: usize = 128;

/// What a feed needs to know of the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamView<'a> {
    pub(crate) tracks: &'a [Track],
    pub(crate) epoch: u64,
    pub(crate) last_seq: u64,
    /// No unit will come in this segment any more: a reader that has all is finished, and told this.
    pub(crate) closing: Option<(RingState, EndReason)>,
    pub(crate) now_ns: u64,
}

/// Where a reader came to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// It goes on right behind the unit it named; nothing was lost.
    pub resumed: bool,
    /// The first unit that it can be given; `last_seq + 1` when it waits.
    pub first_seq: u64,
    /// The newest committed unit.
    pub last_seq: u64,
}

/// Puts `ring` at the place its reader asked for.
pub(crate) fn join(ring: &mut ReaderRing, stream: &StreamView<'_>) -> Joined {
    ring.backfill_until = stream.last_seq;
    let resumed = resume(ring, stream);
    if !resumed {
        enter(ring, stream);
    }
    let first = next_entry(ring, stream.tracks).map_or(stream.last_seq + 1, |(_, entry)| entry.seq);
    Joined { resumed, first_seq: first, last_seq: stream.last_seq }
}

/// Takes up an earlier attachment, if all that came after its last unit is retained.
fn resume(ring: &mut ReaderRing, stream: &StreamView<'_>) -> bool {
    let From::After { epoch, seq } = ring.join.from else { return false };
    let oldest = stream.tracks.iter().filter_map(|t| t.index.oldest()).map(|e| e.seq).min();
    let continuous = oldest.unwrap_or(stream.last_seq + 1) <= seq.saturating_add(1);
    if epoch != stream.epoch || seq > stream.last_seq || !continuous || lost_between(stream, seq) {
        return false;
    }
    for (next, track) in ring.next.iter_mut().zip(stream.tracks) {
        *next = track.index.after_seq(seq);
    }
    ring.gate = Gate::Open;
    true
}

/// Whether a unit above `seq` is retained by no track: tracks lose their units at different times.
fn lost_between(stream: &StreamView<'_>, seq: u64) -> bool {
    let retained: u64 = stream.tracks.iter().map(|t| t.index.end() - t.index.after_seq(seq)).sum();
    retained != stream.last_seq.saturating_sub(seq)
}

/// Enters at a keyframe, or, in a stream without video, at any unit.
fn enter(ring: &mut ReaderRing, stream: &StreamView<'_>) {
    let entry_seq = match video(stream.tracks) {
        Some(track) => video_entry(ring, track),
        None => plain_entry(ring, stream),
    };
    ring.gate =
        if ring.join.filters.everything || video(stream.tracks).is_none() { Gate::Open } else { Gate::Entry };
    for (next, track) in ring.next.iter_mut().zip(stream.tracks) {
        *next = entry_seq.map_or(track.index.end(), |seq| track.index.after_seq(seq.saturating_sub(1)));
    }
}

/// The unit at which a reader enters a stream with video; `None` to wait for what comes.
fn video_entry(ring: &ReaderRing, track: &Track) -> Option<u64> {
    let index = &track.index;
    let number = match ring.join.from {
        From::Live => None,
        From::Keyframe => index.newest_key(),
        From::Oldest | From::After { .. } if ring.join.filters.everything => {
            index.oldest().map(|_| index.first())
        }
        From::Oldest | From::After { .. } => index.oldest_key(),
        From::Preroll { ns } => {
            let until = index.newest().map_or(0, |e| e.recv_ns.saturating_sub(ns));
            index.newest_key_until(until).or_else(|| index.oldest_key())
        }
    };
    number.and_then(|number| index.entry(number)).map(|entry| entry.seq)
}

/// The unit at which a reader enters a stream without video.
fn plain_entry(ring: &ReaderRing, stream: &StreamView<'_>) -> Option<u64> {
    let oldest = || stream.tracks.iter().filter_map(|t| t.index.oldest()).map(|e| e.seq).min();
    let newest = || stream.tracks.iter().filter_map(|t| t.index.newest()).max_by_key(|e| e.seq);
    match ring.join.from {
        From::Live => None,
        From::Keyframe => newest().map(|e| e.seq),
        From::Oldest | From::After { .. } => oldest(),
        From::Preroll { ns } => {
            let since = newest()?.recv_ns.saturating_sub(ns);
            let young = |t: &Track| {
                (t.index.first()..t.index.end()).filter_map(|n| t.index.entry(n)).find(|e| e.recv_ns >= since)
            };
            stream.tracks.iter().filter_map(young).map(|e| e.seq).min()
        }
    }
}

/// Takes `ring` forward: at most [`FEED_MAX`] units, as long as there is room.
pub(crate) fn feed(ring: &mut ReaderRing, stream: &StreamView<'_>) {
    if ring.state() != RingState::Ok {
        return;
    }
    let head_before = ring.checked_head();
    for _ in 0..FEED_MAX {
        if has_all(ring, stream.tracks) {
            ring.pace.caught_up();
            if let Some((state, reason)) = stream.closing {
                ring.finish(state, reason, stream.last_seq);
            }
            return;
        }
        match ring.room() {
            Ok(()) => {}
            Err(RoomError::Full) => {
                return ring.pace.blocked(stream.now_ns, ring.checked_head() > head_before);
            }
            Err(RoomError::BadCursor) => {
                return ring.finish(RingState::Evicted, EndReason::BadCursor, stream.last_seq);
            }
        }
        // Only now that a unit can be given: a jump made earlier would be to an older keyframe than need be.
        catch_up(ring, stream);
        if let Some((at, entry)) = next_entry(ring, stream.tracks) {
            let passes = passes(ring, stream, at, entry);
            if passes && let Some(record) = stream.tracks.get(at).and_then(|track| track.record(entry)) {
                ring.push(&record);
            }
        }
    }
    ring.pace.again_at_once(stream.now_ns);
}

/// Gives a reader that has all before it the unit that was just committed on track `at`: what [`feed`] would do, without
/// reading the record back from the arena. False when the reader is behind or has no room; nothing was done then.
pub(crate) fn feed_newest(
    ring: &mut ReaderRing,
    stream: &StreamView<'_>,
    at: usize,
    entry: Entry,
    record: &Record,
) -> bool {
    // Whoever is fed ends up with all there is, or behind: so the pace knows without a look at the tracks.
    if ring.is_behind() || ring.state() != RingState::Ok || ring.room().is_err() {
        return false;
    }
    if passes(ring, stream, at, entry) {
        ring.push(record);
    }
    debug_assert!(has_all(ring, stream.tracks), "a reader that is not behind has all before the newest unit");
    true
}

/// Takes `ring` past one unit; whether it is to be given it. Else it is counted as filtered, or is a loss.
fn passes(ring: &mut ReaderRing, stream: &StreamView<'_>, at: usize, entry: Entry) -> bool {
    let (Some(track), Some(next)) = (stream.tracks.get(at), ring.next.get_mut(at)) else { return false };
    *next += 1;
    let verdict = verdict(ring, track, at, entry);
    ring.filtered += u64::from(verdict == Verdict::Filtered);
    verdict == Verdict::Pass
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Filtered,
    Lost,
}

fn verdict(ring: &mut ReaderRing, track: &Track, at: usize, entry: Entry) -> Verdict {
    let filters = ring.join.filters;
    if at >= 64 || filters.tracks & (1 << at) == 0 {
        return Verdict::Filtered;
    }
    if track.kind != TrackKind::Video {
        return if ring.gate == Gate::Entry { Verdict::Lost } else { Verdict::Pass };
    }
    let skips_damaged = filters.damaged == Damaged::SkipToKeyframe;
    if skips_damaged && entry.is_damaged() && ring.gate != Gate::Entry {
        ring.gate = Gate::Damage;
    }
    if entry.is_key() && !(skips_damaged && entry.is_damaged()) {
        ring.gate = Gate::Open;
    }
    match ring.gate {
        Gate::Entry => Verdict::Lost,
        Gate::Damage => Verdict::Filtered,
        Gate::Open if filters.keyframes_only && !entry.is_key() => Verdict::Filtered,
        Gate::Open => Verdict::Pass,
    }
}

/// Moves a reader whose next units are gone, or that is too late to be called live, to where it can go on.
fn catch_up(ring: &mut ReaderRing, stream: &StreamView<'_>) {
    for (at, track) in stream.tracks.iter().enumerate() {
        let Some(&next) = ring.next.get(at) else { return };
        let overwritten = next < track.index.first();
        let to = match track.kind {
            TrackKind::Video if overwritten => Some(entry_after_loss(ring, track)),
            TrackKind::Video => late_target(ring, track, next),
            TrackKind::Audio | TrackKind::Data => overwritten.then(|| track.index.first()),
        };
        if let (Some(to), Some(next)) = (to, ring.next.get_mut(at)) {
            *next = to;
        }
    }
}

/// Where video goes on after units were overwritten; the end of the index, gated, when no keyframe is retained.
fn entry_after_loss(ring: &mut ReaderRing, track: &Track) -> u64 {
    let index = &track.index;
    let key = match ring.join.class {
        Class::Live => index.newest_key(),
        Class::Archive => index.oldest_key_from(track.safe_pos()).or_else(|| index.newest_key()),
    };
    if !ring.join.filters.everything {
        ring.gate = Gate::Entry;
    }
    key.unwrap_or(index.end())
}

/// For a live reader that fell too far behind: the newest keyframe, if that is ahead.
fn late_target(ring: &ReaderRing, track: &Track, next: u64) -> Option<u64> {
    if ring.join.class != Class::Live {
        return None;
    }
    let (entry, newest) = (track.index.entry(next)?, track.index.newest()?);
    let late = newest.recv_ns.saturating_sub(entry.recv_ns) > ring.join.lag_max_ns;
    if !late || entry.seq <= ring.backfill_until {
        return None;
    }
    track.index.newest_key().filter(|&key| key > next)
}

/// The unit with the lowest sequence number that the reader has not been given, and its track.
fn next_entry(ring: &ReaderRing, tracks: &[Track]) -> Option<(usize, Entry)> {
    let heads = tracks.iter().zip(ring.next).enumerate();
    heads
        .filter_map(|(at, (track, next))| Some((at, track.index.entry(next)?)))
        .min_by_key(|(_, entry)| entry.seq)
}

/// Whether every unit was dealt with.
fn has_all(ring: &ReaderRing, tracks: &[Track]) -> bool {
    tracks.iter().zip(ring.next).all(|(track, next)| next >= track.index.end())
}

fn video(tracks: &[Track]) -> Option<&Track> {
    tracks.iter().find(|t| t.kind == TrackKind::Video)
}
