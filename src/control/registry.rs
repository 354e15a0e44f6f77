//! The streams of this daemon by their names, and what is known of each.
//!
//! Plain data: no clock, no socket, no shard. Each stream is kept in the form in which it is shown, in an `Arc`:
//! answers copy it, watchers and history share it. An `Arc` that somebody else holds is never changed under them.
//!
//! Revisions begin at the daemon's start in microseconds since 1970, and grow by one for each change. So those of
//! a restarted daemon are above all that went before (it would take more than a million changes a second to break
//! that), and a watcher that comes back with one from before the restart is told to begin anew.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use prost::Message;
use vms_proto::v1;

use super::balance::StreamLoad;
use super::configured::Origin;
use super::error::ApiError;
use super::feed::{Feed, Watch};
use super::rates::Rates;
use super::show;
use super::spec::{SpecUpdate, StreamSpec};
use super::state::SavedStream;
use crate::codec::VideoFormat;
use crate::ids::{StreamId, StreamUid};
use crate::ingest::{PolicyChanges, Status};
use crate::limits::PAGE_LEN_MAX;
use crate::metrics;
use crate::publish::{Access, ReaderStats};
use crate::shard::StreamStats;
use crate::time::{Now, UnixNanos};

/// All streams.
pub(crate) struct Registry {
    streams: BTreeMap<StreamId, Entry>,
    names: HashMap<StreamUid, StreamId>,
    revision: u64,
    feed: Feed,
}

struct Entry {
    uid: StreamUid,
    spec: StreamSpec,
    shard: usize,
    rates: Rates,
    /// What `shown` has a part of.
    stats: StreamStats,
    /// As of a second ago.
    readers: Vec<ReaderStats>,
    shown: Arc<v1::Stream>,
}

/// Where a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its incarnation.
    pub(crate) uid: StreamUid,
    /// Its shard, from 0.
    pub(crate) shard: usize,
}

/// What a new status changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    /// Whose it is.
    pub(crate) id: &'a StreamId,
    /// Whether the reason is another than before.
    pub(crate) is_new_reason: bool,
}

/// A page of streams.
#[derive(Debug)]
pub(crate) struct Page {
    /// The streams, by id.
    pub(crate) streams: Vec<v1::Stream>,
    /// The last of them, when more follow.
    pub(crate) more_after: Option<StreamId>,
}

impl Registry {
    /// No streams, at a daemon that started at `start`.
    pub(crate) fn new(start: UnixNanos) -> Self {
        let revision = u64::try_from(start.0 / 1_000).unwrap_or(0);
        Self { streams: BTreeMap::new(), names: HashMap::new(), revision, feed: Feed::new(revision) }
    }

    /// How many streams there are.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// The revision of the last change.
    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }

    /// The stream `id`, if it is there with the same spec; `None` when the id is free.
    ///
    /// # Errors
    /// `SpecConflict` when it is there with another.
    pub(crate) fn lookup(&self, id: &StreamId, spec: &StreamSpec) -> Result<Option<v1::Stream>, ApiError> {
        let Some(entry) = self.streams.get(id) else { return Ok(None) };
        match entry.spec.difference(spec) {
            fields if fields.is_empty() => Ok(Some(v1::Stream::clone(&entry.shown))),
            fields => Err(ApiError::SpecConflict { id: id.clone(), fields }),
        }
    }

    /// Registers a stream whose id is free.
    pub(crate) fn insert(
        &mut self,
        stream: SavedStream,
        origin: Origin,
        place: Place,
        now: Now,
    ) -> v1::Stream {
        let SavedStream { id, spec, created } = stream;
        let revision = self.next_revision();
        let shown = Arc::new(v1::Stream {
            stream_id: id.to_string(),
            spec: Some(spec.shown()),
            credentials_set: spec.credentials.is_some(),
            state: v1::State::Pending.into(),
            state_since: Some(show::timestamp(now.wall)),
            create_time: Some(show::timestamp(created)),
            shard: u32::try_from(place.shard).unwrap_or(u32::MAX),
            etag: format!("{revision:x}"),
            revision,
            stats: Some(v1::StreamStats::default()),
            origin: show::origin(origin).into(),
            ..v1::Stream::default()
        });
        self.feed.publish(v1::EventType::Created, Arc::clone(&shown));
        let answer = v1::Stream::clone(&shown);
        self.names.insert(place.uid, id.clone());
        let Place { uid, shard } = place;
        let (rates, stats, readers) = (Rates::default(), StreamStats::default(), Vec::new());
        self.streams.insert(id, Entry { uid, spec, shard, rates, stats, readers, shown });
        answer
    }

    /// A stream as it is to be kept; `None` when it is not there.
    pub(crate) fn saved(&self, id: &StreamId) -> Option<SavedStream> {
        let entry = self.streams.get(id)?;
        let created = entry.shown.create_time.as_ref().map_or_else(Default::default, show::unix_nanos);
        Some(SavedStream { id: id.clone(), spec: entry.spec.clone(), created })
    }

    /// Takes a stream out; `None` when it is not there.
    pub(crate) fn remove(&mut self, id: &StreamId) -> Option<Place> {
        let entry = self.streams.remove(id)?;
        self.names.remove(&entry.uid);
        let mut last = Arc::unwrap_or_clone(entry.shown);
        last.revision = self.next_revision();
        self.feed.publish(v1::EventType::Removed, Arc::new(last));
        Some(Place { uid: entry.uid, shard: entry.shard })
    }

    /// Who may read the stream `id`; `None` when it is not there.
    pub(crate) fn access(&self, id: &StreamId) -> Option<&Access> {
        self.streams.get(id).map(|entry| &entry.spec.access)
    }

    /// Who may read the incarnation `uid`; `None` when it is not there any more.
    pub(crate) fn access_of(&self, uid: StreamUid) -> Option<&Access> {
        self.name(uid).and_then(|id| self.access(id))
    }

    /// The name of the incarnation `uid`; `None` when it is not there any more.
    pub(crate) fn name(&self, uid: StreamUid) -> Option<&StreamId> {
        self.names.get(&uid)
    }

    /// Where the stream `id` is.
    ///
    /// # Errors
    /// `NotFound`; `EtagMismatch` unless `etag` is empty or the stream's.
    pub(crate) fn place(&self, id: &StreamId, etag: &str) -> Result<Place, ApiError> {
        let entry = self.streams.get(id).ok_or_else(|| ApiError::NotFound { id: id.clone() })?;
        if !etag.is_empty() && etag != entry.shown.etag {
            return Err(ApiError::EtagMismatch { id: id.clone() });
        }
        Ok(Place { uid: entry.uid, shard: entry.shard })
    }

    /// Changes a stream's spec; the stream as it is then. `withdrawn` says when somebody was to be cut off, if that begins now.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn update(
        &mut self,
        id: &StreamId,
        update: SpecUpdate,
        withdrawn: Option<UnixNanos>,
    ) -> Result<v1::Stream, ApiError> {
        let next = self.revision + 1;
        let entry = self.streams.get_mut(id).ok_or_else(|| ApiError::NotFound { id: id.clone() })?;
        let is_new = entry.spec.apply(update);
        let (uid, spec) = (entry.uid, entry.spec.shown());
        self.change(uid, |shown| {
            shown.spec = Some(spec);
            if is_new {
                shown.etag = format!("{next:x}");
            }
            if withdrawn.is_some() {
                shown.withdrawal_pending_since = withdrawn.map(show::timestamp);
            }
        });
        self.stream(id)
    }

    /// What of the daemon's patience is another for the stream `id`; `None` when it is not there.
    pub(crate) fn patience(&self, id: &StreamId) -> Option<&PolicyChanges> {
        self.streams.get(id).map(|entry| &entry.spec.patience)
    }

    /// Nobody whom the stream's access list does not name can see new units of it.
    pub(crate) fn end_withdrawal(&mut self, uid: StreamUid) {
        self.change(uid, |shown| shown.withdrawal_pending_since = None);
    }

    /// All that any stream's access list names.
    pub(crate) fn guests(&self) -> Access {
        let mut all = Access::default();
        self.streams.values().for_each(|entry| all.extend(&entry.spec.access));
        all
    }

    /// The stream `id`.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn stream(&self, id: &StreamId) -> Result<v1::Stream, ApiError> {
        let entry = self.streams.get(id).ok_or_else(|| ApiError::NotFound { id: id.clone() })?;
        Ok(v1::Stream::clone(&entry.shown))
    }

    /// Who reads the stream `id`.
    pub(crate) fn readers(&self, id: &StreamId) -> &[ReaderStats] {
        self.streams.get(id).map_or(&[], |entry| &entry.readers)
    }

    /// Up to `size` streams behind `after`, and fewer when they would outgrow an answer.
    pub(crate) fn page(&self, after: Option<&StreamId>, size: usize) -> Page {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Page { streams: Vec::new(), more_after: None };
        let mut len = 0;
        let mut last: Option<&StreamId> = None;
        for (id, entry) in self.streams.range::<StreamId, _>((start, Bound::Unbounded)) {
            len += entry.shown.encoded_len();
            let full = page.streams.len() == size || (len > PAGE_LEN_MAX && !page.streams.is_empty());
            if full {
                page.more_after = last.cloned();
                break;
            }
            page.streams.push(v1::Stream::clone(&entry.shown));
            last = Some(id);
        }
        page
    }

    /// What metrics tell of each stream.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = metrics::Stream> {
        self.streams.iter().map(|(id, Entry { shard, stats, shown, .. })| metrics::Stream {
            id: id.clone(),
            shard: *shard,
            state: shown.state(),
            reason: shown.reason(),
            state_since: shown.state_since,
            created: shown.create_time,
            last_unit: shown.last_frame_time,
            next_attempt: shown.next_attempt,
            withdrawal_pending_since: shown.withdrawal_pending_since,
            track: shown.tracks.first().copied(),
            stats: *stats,
        })
    }

    /// A watch from revision `from`, or of everything when it is 0.
    pub(crate) fn watch(&mut self, from: u64) -> Watch {
        match from {
            0 => {
                let streams = self.streams.values().map(|entry| Arc::clone(&entry.shown));
                self.feed.watch_all(self.revision, streams)
            }
            from => self.feed.watch_from(self.revision, from),
        }
    }

    /// Ends all watches.
    pub(crate) fn close(&mut self) {
        self.feed.close();
    }

    /// The incarnation that has the name `id` now.
    pub(crate) fn uid(&self, id: &StreamId) -> Option<StreamUid> {
        self.streams.get(id).map(|entry| entry.uid)
    }

    /// Where everything is.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.streams.values().map(|entry| Place { uid: entry.uid, shard: entry.shard }).collect()
    }

    /// Takes a stream's new status. Answers what it changed, if anything.
    pub(crate) fn status(&mut self, uid: StreamUid, status: &Status, now: Now) -> Option<Change<'_>> {
        let next_attempt = status.next_attempt.map(|at| show::timestamp(show::wall_at(at, now)));
        let reason = show::reason(status.reason);
        let mut is_new_reason = false;
        let id = self.change(uid, |shown| {
            is_new_reason = shown.reason() != reason;
            shown.set_state(show::state(status.state));
            shown.set_reason(reason);
            shown.detail = show::detail(&status.detail);
            shown.state_since = Some(show::timestamp(status.since));
            shown.next_attempt = next_attempt;
        })?;
        Some(Change { id, is_new_reason })
    }

    /// What each stream was measured to send.
    pub(crate) fn loads(&self) -> impl Iterator<Item = StreamLoad> {
        self.streams.values().map(|entry| {
            let rates = entry.rates.is_measured().then(|| {
                let (fps, bits) = entry.rates.per_second();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a rate; it saturates"
                )]
                (bits / 8, fps.ceil() as u64)
            });
            StreamLoad { uid: entry.uid, shard: entry.shard, rates }
        })
    }

    /// The stream is carried by this shard now.
    pub(crate) fn set_shard(&mut self, uid: StreamUid, shard: usize) {
        if let Some(entry) = self.names.get(&uid).and_then(|id| self.streams.get_mut(id)) {
            entry.shard = shard;
        }
        self.change(uid, |shown| shown.shard = u32::try_from(shard).unwrap_or(u32::MAX));
    }

    /// Takes what the camera sends.
    pub(crate) fn format(&mut self, uid: StreamUid, format: VideoFormat) {
        self.change(uid, |shown| shown.tracks = vec![show::track(&format)]);
    }

    /// Takes a stream's counters, and those of its readers. This is no change: the revision stays.
    ///
    /// Returns whether its camera was throttled since.
    pub(crate) fn stats(
        &mut self,
        uid: StreamUid,
        stats: &StreamStats,
        readers: Vec<ReaderStats>,
        now: Now,
    ) -> bool {
        let Some(entry) = self.names.get(&uid).and_then(|id| self.streams.get_mut(id)) else { return false };
        let is_throttled = stats.camera.throttled > entry.stats.camera.throttled;
        entry.rates.sample(now.mono, stats.camera.units, stats.camera.unit_bytes);
        (entry.stats, entry.readers) = (*stats, readers);
        let (fps, bitrate_bps) = entry.rates.per_second();
        let shown = Arc::make_mut(&mut entry.shown);
        shown.reconnects = stats.camera.reconnects;
        shown.last_frame_time = stats.camera.last_unit.map(|at| show::timestamp(show::wall_at(at, now)));
        shown.stats = Some(v1::StreamStats { fps, bitrate_bps, ..show::stats(stats) });
        is_throttled
    }

    /// Changes how a stream is shown, and tells the watchers if that made a difference.
    fn change(&mut self, uid: StreamUid, change: impl FnOnce(&mut v1::Stream)) -> Option<&StreamId> {
        let id = self.names.get(&uid)?;
        let entry = self.streams.get_mut(id)?;
        let mut shown = v1::Stream::clone(&entry.shown);
        change(&mut shown);
        if shown == *entry.shown {
            return None;
        }
        self.revision += 1;
        shown.revision = self.revision;
        entry.shown = Arc::new(shown);
        self.feed.publish(v1::EventType::Changed, Arc::clone(&entry.shown));
        Some(id)
    }

    const fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::{CANARY, spec};
    use super::*;
    use crate::codec::Codec;
    use crate::ingest::{CameraStats, Reason, State};
    use crate::time::Mono;

    const START: UnixNanos = UnixNanos(1_700_000_000_000_000_000);
    const START_REVISION: u64 = 1_700_000_000_000_000;
    const URL: &str = "rtsp://admin:pw@10.0.0.1/live";

    fn now() -> Now {
        Now { mono: Mono(5_000_000_000), wall: START }
    }

    fn id(text: &str) -> StreamId {
        StreamId::new(text).unwrap()
    }

    fn stream(name: &str, spec: StreamSpec) -> SavedStream {
        SavedStream { id: id(name), spec, created: START }
    }

    fn registry_of(names: &[&str]) -> Registry {
        let mut registry = Registry::new(START);
        for (uid, name) in (1..).zip(names) {
            registry.insert(
                stream(name, spec(URL)),
                Origin::Api,
                Place { uid: StreamUid(uid), shard: 0 },
                now(),
            );
        }
        registry
    }

    fn status(state: State, detail: &str) -> Status {
        Status {
            state,
            reason: Reason::ConnectRefused,
            detail: detail.into(),
            since: START,
            next_attempt: None,
        }
    }

    fn kinds(watch: &Watch) -> Vec<v1::EventType> {
        watch.backlog.iter().map(|event| event.kind).collect()
    }

    #[test]
    fn the_same_spec_is_found_and_another_is_a_conflict() {
        let registry = registry_of(&["cam-1"]);
        let found = registry.lookup(&id("cam-1"), &spec(URL)).unwrap().unwrap();
        assert_eq!((found.stream_id.as_str(), found.revision), ("cam-1", START_REVISION + 1));
        assert!(registry.lookup(&id("cam-2"), &spec(URL)).unwrap().is_none());
        let other = registry.lookup(&id("cam-1"), &spec("rtsp://admin:other@10.0.0.1/live")).unwrap_err();
        assert_eq!(other, ApiError::SpecConflict { id: id("cam-1"), fields: vec!["credentials"] });
    }

    #[test]
    fn a_removed_stream_is_gone_and_its_late_events_change_nothing() {
        let mut registry = registry_of(&["cam-1"]);
        let place = registry.remove(&id("cam-1")).unwrap();
        assert_eq!(registry.remove(&id("cam-1")), None);
        registry.insert(
            stream("cam-1", spec(URL)),
            Origin::File,
            Place { uid: StreamUid(9), shard: 1 },
            now(),
        );
        let revision = registry.revision();
        assert_eq!(registry.status(place.uid, &status(State::Backoff, "late"), now()), None);
        assert_eq!(registry.revision(), revision);
        assert_eq!(registry.stream(&id("cam-1")).unwrap().state(), v1::State::Pending);
    }

    #[test]
    fn a_status_is_a_change_once_and_counters_never_are() {
        let mut registry = registry_of(&["cam-1"]);
        let refused = Status { next_attempt: Some(Mono(6_000_000_000)), ..status(State::Backoff, "refused") };
        let change = registry.status(StreamUid(1), &refused, now()).unwrap();
        assert_eq!(change, Change { id: &id("cam-1"), is_new_reason: true });
        assert_eq!(registry.status(StreamUid(1), &refused, now()), None);
        let camera = CameraStats {
            units: 7,
            reconnects: 2,
            last_unit: Some(Mono(4_000_000_000)),
            ..CameraStats::default()
        };
        let stats = StreamStats { camera, ..StreamStats::default() };
        registry.stats(StreamUid(1), &stats, Vec::new(), now());

        let stream = registry.stream(&id("cam-1")).unwrap();
        assert_eq!((stream.state(), stream.detail.as_str()), (v1::State::Backoff, "refused"));
        assert_eq!(stream.next_attempt.unwrap().seconds, START.0 / 1_000_000_000 + 1);
        assert_eq!(stream.last_frame_time.unwrap().seconds, START.0 / 1_000_000_000 - 1);
        assert_eq!((stream.revision, registry.revision()), (START_REVISION + 2, START_REVISION + 2));
        assert_eq!((stream.stats.unwrap().units, stream.reconnects), (7, 2));
        assert_eq!(stream.etag, format!("{:x}", START_REVISION + 1));
    }

    #[test]
    fn the_video_is_told_once_and_again_when_it_changes() {
        let mut registry = registry_of(&["cam-1"]);
        let mut revisions = [1920, 1920, 1280].map(|width| {
            let format = VideoFormat {
                codec: Codec::H265,
                profile: 1,
                level: 120,
                width,
                height: 1080,
                frame_rate: (50, 2),
            };
            registry.format(StreamUid(1), format);
            registry.revision()
        });
        revisions.iter_mut().for_each(|revision| *revision -= START_REVISION);
        assert_eq!(revisions, [2, 2, 3]);
        let track = registry.stream(&id("cam-1")).unwrap().tracks.remove(0);
        assert_eq!((track.codec(), track.width, track.fps), (v1::Codec::H265, 1280, 25.0));
    }

    #[test]
    fn a_watch_sees_snapshot_bookmark_and_deltas_and_can_go_on_from_a_revision() {
        let mut registry = registry_of(&["a", "b"]);
        let mut watch = registry.watch(0);
        assert_eq!(
            kinds(&watch),
            [v1::EventType::Snapshot, v1::EventType::Snapshot, v1::EventType::Bookmark]
        );
        let seen = registry.revision();
        registry.status(StreamUid(2), &status(State::Connecting, ""), now());
        registry.remove(&id("a"));
        let live = watch.live.as_mut().unwrap();
        assert_eq!(live.try_recv().unwrap().kind, v1::EventType::Changed);
        let removed = live.try_recv().unwrap();
        assert_eq!((removed.kind, removed.revision), (v1::EventType::Removed, seen + 2));
        assert_eq!(removed.stream.unwrap().stream_id, "a");

        let resumed = registry.watch(seen);
        assert_eq!(
            kinds(&resumed),
            [v1::EventType::Changed, v1::EventType::Removed, v1::EventType::Bookmark]
        );
        let before_restart = registry.watch(START_REVISION - 1);
        assert_eq!(kinds(&before_restart), [v1::EventType::Compacted]);
    }

    #[test]
    fn pages_cover_everything_once() {
        let names: Vec<String> = (0..25).map(|n| format!("cam-{n:02}")).collect();
        let registry = registry_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = registry.page(after.as_ref(), 10);
            assert!(page.streams.len() <= 10);
            seen.extend(page.streams.into_iter().map(|stream| stream.stream_id));
            after = page.more_after;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, names);
        assert!(registry.page(Some(&id("zzz")), 10).streams.is_empty());
        assert_eq!(
            registry.page(None, 25).more_after,
            None,
            "a page that ends with the last stream is the last"
        );
    }

    #[test]
    fn no_answer_holds_the_password() {
        let mut registry = Registry::new(START);
        let spec = spec(&format!("rtsp://admin:{CANARY}@10.0.0.1/live"));
        let created =
            registry.insert(stream("a", spec), Origin::Api, Place { uid: StreamUid(1), shard: 0 }, now());
        assert!(created.credentials_set);
        let shown = registry.watch(0).backlog.into_iter().map(|event| event.shown().encode_to_vec());
        for bytes in shown.chain([created.encode_to_vec()]) {
            assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
        }
    }
}
