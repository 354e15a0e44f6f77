//! Events on their way to the control thread: never blocking, never losing the newest of a kind.
//!
//! The queue between the threads is bounded, and so is what waits before it: [`STATUSES_MAX`] statuses, one look-up, one format and
//! one set of counters a stream, the newest of each replaced by a newer one. When the control thread is slow it misses what is out of
//! date, and nothing else. Answers to commands are all kept; there are at most two to each that the control thread sent.

use std::collections::{BTreeMap, VecDeque};

use ringbuf::HeapProd;
use ringbuf::traits::{Observer, Producer};

use super::command::{Event, ShardStats, StreamStats};
use super::stream::MovingStream;
use crate::codec::VideoFormat;
use crate::ids::StreamUid;
use crate::ingest::Status;
use crate::io::Waker;
use crate::publish::{Publisher, ReaderStats};

/// Statuses of one stream that wait: more than it goes through in one turn, so that watchers see a state that did not last.
const STATUSES_MAX: usize = 8;

/// The shard's end of the event queue.
pub(super) struct EventSender {
    queue: HeapProd<Event>,
    bell: Waker,
    answers: VecDeque<Event>,
    shard_stats: Option<ShardStats>,
    waiting: BTreeMap<StreamUid, Waiting>,
    /// Streams of `waiting`, those that have waited longest first.
    line: VecDeque<StreamUid>,
}

/// What one stream has to tell.
#[derive(Debug, Default)]
struct Waiting {
    resolve: Option<(String, u16, u64)>,
    /// The oldest first.
    statuses: VecDeque<Status>,
    format: Option<VideoFormat>,
    stats: Option<(Box<StreamStats>, Vec<ReaderStats>)>,
    departed: Option<Box<MovingStream>>,
    removed: Option<Box<Publisher>>,
}

impl EventSender {
    /// Sends into `queue` and rings `bell`.
    pub(super) const fn new(queue: HeapProd<Event>, bell: Waker) -> Self {
        Self {
            queue,
            bell,
            answers: VecDeque::new(),
            shard_stats: None,
            waiting: BTreeMap::new(),
            line: VecDeque::new(),
        }
    }

    /// The stream's status is now this.
    pub(super) fn status(&mut self, uid: StreamUid, status: Status) {
        let statuses = &mut self.entry(uid).statuses;
        if statuses.len() == STATUSES_MAX {
            statuses.pop_back();
        }
        statuses.push_back(status);
    }

    /// The stream's video has now this format.
    pub(super) fn format(&mut self, uid: StreamUid, format: VideoFormat) {
        self.entry(uid).format = Some(format);
    }

    /// The stream's counters are now these, and those of its readers.
    pub(super) fn stats(&mut self, uid: StreamUid, stats: StreamStats, readers: Vec<ReaderStats>) {
        self.entry(uid).stats = Some((Box::new(stats), readers));
    }

    /// The shard's counters are now these.
    pub(super) fn shard_stats(&mut self, stats: ShardStats) {
        self.shard_stats = Some(stats);
    }

    /// The stream needs addresses; an earlier question is void.
    pub(super) fn resolve(&mut self, uid: StreamUid, host: String, port: u16, attempt: u64) {
        self.entry(uid).resolve = Some((host, port, attempt));
    }

    /// The stream leaves this shard. What else it had to tell is told before.
    pub(super) fn departed(&mut self, uid: StreamUid, stream: Box<MovingStream>) {
        self.entry(uid).departed = Some(stream);
    }

    /// The stream is gone. What else it had to tell is out of date.
    pub(super) fn removed(&mut self, uid: StreamUid, publisher: Box<Publisher>) {
        *self.entry(uid) = Waiting { removed: Some(publisher), ..Waiting::default() };
    }

    /// What came of a command.
    pub(super) fn answer(&mut self, event: Event) {
        self.answers.push_back(event);
    }

    /// Moves what fits into the queue and rings the bell if anything did. Called once a turn.
    pub(super) fn flush(&mut self) {
        if self.is_empty() {
            return;
        }
        // The bell rings also when nothing found room: the control thread has to make some.
        self.flush_answers();
        if let Some(stats) = self.shard_stats.take()
            && self.queue.try_push(Event::ShardStats(stats)).is_err()
        {
            self.shard_stats = Some(stats);
        }
        // What a stream tells is not told before the answers that it follows, such as its end.
        while self.answers.is_empty()
            && let Some(&uid) = self.line.front()
        {
            if !self.flush_stream(uid) {
                break;
            }
            self.line.pop_front();
            self.waiting.remove(&uid);
        }
        self.bell.wake();
    }

    fn flush_answers(&mut self) {
        while let Some(event) = self.answers.pop_front() {
            if let Err(event) = self.queue.try_push(event) {
                self.answers.push_front(event);
                return;
            }
        }
    }

    /// Whether all of it went.
    fn flush_stream(&mut self, uid: StreamUid) -> bool {
        let Some(waiting) = self.waiting.get_mut(&uid) else { return true };
        while let Some(event) = waiting.next(uid) {
            if let Err(event) = self.queue.try_push(event) {
                waiting.put_back(event);
                return false;
            }
        }
        true
    }

    /// Whether the other end is still there.
    pub(super) fn is_heard(&self) -> bool {
        self.queue.read_is_held()
    }

    /// Whether no event waits for room.
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.answers.is_empty() && self.shard_stats.is_none()
    }

    fn entry(&mut self, uid: StreamUid) -> &mut Waiting {
        self.waiting.entry(uid).or_insert_with(|| {
            self.line.push_back(uid);
            Waiting::default()
        })
    }
}

impl Waiting {
    /// Takes the next event out, the urgent first.
    fn next(&mut self, uid: StreamUid) -> Option<Event> {
        if let Some((host, port, attempt)) = self.resolve.take() {
            return Some(Event::Resolve { uid, host, port, attempt });
        }
        if let Some(status) = self.statuses.pop_front() {
            return Some(Event::Status { uid, status });
        }
        if let Some(format) = self.format.take() {
            return Some(Event::Format { uid, format });
        }
        if let Some((stats, readers)) = self.stats.take() {
            return Some(Event::Stats { uid, stats, readers });
        }
        if let Some(stream) = self.departed.take() {
            return Some(Event::Departed { uid, stream });
        }
        self.removed.take().map(|publisher| Event::Removed { uid, publisher })
    }

    /// Undoes [`next`](Self::next).
    fn put_back(&mut self, event: Event) {
        match event {
            Event::Resolve { host, port, attempt, .. } => self.resolve = Some((host, port, attempt)),
            Event::Status { status, .. } => self.statuses.push_front(status),
            Event::Format { format, .. } => self.format = Some(format),
            Event::Stats { stats, readers, .. } => self.stats = Some((stats, readers)),
            Event::Departed { stream, .. } => self.departed = Some(stream),
            Event::Removed { publisher, .. } => self.removed = Some(publisher),
            Event::ShardStats(_)
            | Event::Attached { .. }
            | Event::NotAttached { .. }
            | Event::Detached { .. }
            | Event::Stayed { .. }
            | Event::Arrived { .. }
            | Event::Moved { .. }
            | Event::NotMoved { .. }
            | Event::Released { .. } => {
                debug_assert!(false, "only what a stream tells waits here");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{Reason, State};
    use crate::io;
    use crate::publish::RingId;
    use crate::time::UnixNanos;
    use ringbuf::traits::{Consumer, Split};
    use ringbuf::{HeapCons, HeapRb};

    fn sender(len: usize) -> (EventSender, HeapCons<Event>) {
        let (producer, consumer) = HeapRb::new(len).split();
        (EventSender::new(producer, io::wake_pair().unwrap().0), consumer)
    }

    fn status(detail: &str) -> Status {
        Status {
            state: State::Connecting,
            reason: Reason::None,
            detail: detail.to_owned(),
            since: UnixNanos(0),
            next_attempt: None,
        }
    }

    #[test]
    fn a_full_queue_keeps_the_newest_status_of_each_stream() {
        let (mut sender, mut queue) = sender(2);
        for round in 0..100 {
            for uid in 0..5 {
                sender.status(StreamUid(uid), status(&format!("{uid}:{round}")));
            }
            sender.flush();
        }
        let mut told = Vec::new();
        while !sender.is_empty() || !queue.is_empty() {
            told.extend(queue.pop_iter());
            sender.flush();
        }
        for uid in 0..5 {
            let of_stream = |event: &&Event| matches!(event, Event::Status { uid: u, .. } if u.0 == uid);
            let Some(Event::Status { status: last, .. }) = told.iter().rfind(of_stream) else { panic!() };
            assert_eq!(*last, status(&format!("{uid}:99")));
        }
        assert!(told.len() <= 2 + 5 * STATUSES_MAX, "what was out of date was not told: {}", told.len());
    }

    #[test]
    fn states_that_did_not_last_are_told_in_their_order() {
        let (mut sender, mut queue) = sender(2);
        let words = ["connecting", "streaming", "backoff"];
        words.iter().for_each(|word| sender.status(StreamUid(1), status(word)));
        let mut told = Vec::new();
        while !sender.is_empty() || !queue.is_empty() {
            sender.flush();
            told.extend(queue.pop_iter().map(|event| {
                let Event::Status { status, .. } = event else { panic!("{event:?}") };
                status.detail
            }));
        }
        assert_eq!(told, words);
    }

    #[test]
    fn nobody_waits_for_ever_behind_a_chatterbox() {
        let (mut sender, mut queue) = sender(1);
        sender.status(StreamUid(1), status("first"));
        sender.flush();
        sender.status(StreamUid(2), status("patient"));
        for _ in 0..3 {
            sender.status(StreamUid(1), status("again"));
            sender.flush();
            queue.try_pop();
        }
        assert!(!sender.waiting.contains_key(&StreamUid(2)));
    }

    #[test]
    fn removal_is_the_last_word() {
        let (mut sender, mut queue) = sender(8);
        sender.status(StreamUid(1), status("stopping"));
        sender.resolve(StreamUid(1), "cam".into(), 554, 1);
        sender.stats(StreamUid(1), StreamStats::default(), Vec::new());
        let publisher = Publisher::create(StreamUid(1), 1, 64 * 1024).unwrap();
        sender.removed(StreamUid(1), Box::new(publisher));
        sender.flush();
        let told: Vec<_> = queue.pop_iter().collect();
        assert!(matches!(told[..], [Event::Removed { uid: StreamUid(1), .. }]), "{told:?}");
    }

    #[test]
    fn every_answer_is_kept_in_order() {
        let (mut sender, mut queue) = sender(2);
        for slot in 0..9 {
            let id = RingId { session: 1, slot };
            sender.answer(Event::Detached { uid: StreamUid(1), id, ring: None });
        }
        let mut slots = Vec::new();
        while !sender.is_empty() || !queue.is_empty() {
            sender.flush();
            for event in queue.pop_iter() {
                let Event::Detached { id, .. } = event else { panic!("{event:?}") };
                slots.push(id.slot);
            }
        }
        assert_eq!(slots, (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn all_kinds_go_out_once_and_the_question_first() {
        let (mut sender, mut queue) = sender(2);
        sender.stats(StreamUid(1), StreamStats::default(), Vec::new());
        sender.status(StreamUid(1), status("x"));
        sender.resolve(StreamUid(1), "old".into(), 554, 1);
        sender.resolve(StreamUid(1), "cam".into(), 554, 2);
        sender.flush();
        let first: Vec<_> = queue.pop_iter().collect();
        assert!(matches!(&first[..], [Event::Resolve { attempt: 2, .. }, Event::Status { .. }]), "{first:?}");
        sender.flush();
        assert!(matches!(queue.try_pop(), Some(Event::Stats { .. })));
        sender.flush();
        assert!(queue.is_empty() && sender.is_empty());
    }
}
