//! What happened, for those who watch: a bounded history and a bounded queue for each watcher.
//!
//! Nobody waits for a watcher. One that falls behind by more than its queue holds loses its place: its queue is
//! closed, it reads what is left and then learns why.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use vms_proto::v1;

use crate::limits::{WATCH_HISTORY_LEN, WATCH_QUEUE_LEN};

/// One event. Watchers and history share the stream it shows.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// What happened.
    pub(crate) kind: v1::EventType,
    /// The revision after it.
    pub(crate) revision: u64,
    /// To what.
    pub(crate) stream: Option<Arc<v1::Stream>>,
    /// For COMPACTED: the oldest revision to watch from.
    pub(crate) compact_revision: u64,
}

/// What a new watcher gets.
#[derive(Debug)]
pub(crate) struct Watch {
    /// To be sent first.
    pub(crate) backlog: Vec<Event>,
    /// Then these; `None` when the call ends after the backlog.
    pub(crate) live: Option<mpsc::Receiver<Event>>,
}

/// History and watchers.
#[derive(Debug)]
pub(crate) struct Feed {
    history: VecDeque<Event>,
    history_len: usize,
    queue_len: usize,
    /// Revision of the newest event that is no longer kept.
    compacted: u64,
    watchers: Vec<mpsc::Sender<Event>>,
}

impl Event {
    /// The event as it is sent.
    pub(crate) fn shown(self) -> v1::StreamEvent {
        v1::StreamEvent {
            r#type: self.kind.into(),
            revision: self.revision,
            stream: self.stream.map(Arc::unwrap_or_clone),
            compact_revision: self.compact_revision,
        }
    }
}

impl Feed {
    /// A feed whose history begins after `revision`.
    pub(crate) fn new(revision: u64) -> Self {
        Self::with_lengths(revision, WATCH_HISTORY_LEN, WATCH_QUEUE_LEN)
    }

    fn with_lengths(revision: u64, history_len: usize, queue_len: usize) -> Self {
        Self { history: VecDeque::new(), history_len, queue_len, compacted: revision, watchers: Vec::new() }
    }

    /// Tells everybody. A watcher whose queue is full, or that is gone, is forgotten.
    pub(crate) fn publish(&mut self, kind: v1::EventType, stream: Arc<v1::Stream>) {
        let event = Event { kind, revision: stream.revision, stream: Some(stream), compact_revision: 0 };
        self.watchers.retain(|watcher| watcher.try_send(event.clone()).is_ok());
        if self.history.len() == self.history_len
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = oldest.revision;
        }
        self.history.push_back(event);
    }

    /// A watch that begins with all of `streams`; `revision` is that of now.
    pub(crate) fn watch_all(
        &mut self,
        revision: u64,
        streams: impl Iterator<Item = Arc<v1::Stream>>,
    ) -> Watch {
        let snapshot = streams.map(|stream| Event {
            kind: v1::EventType::Snapshot,
            revision: stream.revision,
            stream: Some(stream),
            compact_revision: 0,
        });
        let backlog = snapshot.chain([bookmark(revision)]).collect();
        Watch { backlog, live: Some(self.subscribe()) }
    }

    /// A watch that goes on after `from`; `revision` is that of now.
    ///
    /// A `from` above `revision` is from another life of the daemon, so it counts as not kept.
    pub(crate) fn watch_from(&mut self, revision: u64, from: u64) -> Watch {
        if from < self.compacted || from > revision {
            let compact_revision = self.compacted;
            let compacted =
                Event { kind: v1::EventType::Compacted, revision, stream: None, compact_revision };
            return Watch { backlog: vec![compacted], live: None };
        }
        let missed = self.history.iter().filter(|event| event.revision > from).cloned();
        let backlog = missed.chain([bookmark(revision)]).collect();
        Watch { backlog, live: Some(self.subscribe()) }
    }

    /// Ends all watches.
    pub(crate) fn close(&mut self) {
        self.watchers.clear();
    }

    fn subscribe(&mut self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(self.queue_len);
        self.watchers.push(sender);
        receiver
    }
}

fn bookmark(revision: u64) -> Event {
    Event { kind: v1::EventType::Bookmark, revision, stream: None, compact_revision: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::error::TryRecvError;

    fn stream(revision: u64) -> Arc<v1::Stream> {
        Arc::new(v1::Stream { stream_id: "a".into(), revision, ..Default::default() })
    }

    fn revisions(watch: &Watch) -> Vec<(v1::EventType, u64)> {
        watch.backlog.iter().map(|event| (event.kind, event.revision)).collect()
    }

    #[test]
    fn history_is_bounded_and_says_where_it_begins() {
        let mut feed = Feed::with_lengths(100, 2, 8);
        for revision in 101..=104 {
            feed.publish(v1::EventType::Changed, stream(revision));
        }
        let watch = feed.watch_from(104, 102);
        let changed = v1::EventType::Changed;
        assert_eq!(revisions(&watch), [(changed, 103), (changed, 104), (v1::EventType::Bookmark, 104)]);
        assert!(watch.live.is_some());

        for too_old_or_never in [1, 100, 101, 105] {
            let watch = feed.watch_from(104, too_old_or_never);
            assert_eq!(revisions(&watch), [(v1::EventType::Compacted, 104)], "from {too_old_or_never}");
            assert_eq!(watch.backlog[0].compact_revision, 102);
            assert!(watch.live.is_none());
        }
    }

    #[test]
    fn a_slow_watcher_is_cut_and_the_others_see_everything() {
        let mut feed = Feed::with_lengths(0, 100, 4);
        let mut slow = feed.watch_from(0, 0).live.unwrap();
        let mut quick = feed.watch_from(0, 0).live.unwrap();
        for revision in 1..=20 {
            feed.publish(v1::EventType::Changed, stream(revision));
            assert_eq!(quick.try_recv().unwrap().revision, revision);
        }
        for revision in 1..=4 {
            assert_eq!(slow.try_recv().unwrap().revision, revision);
        }
        assert_eq!(slow.try_recv().unwrap_err(), TryRecvError::Disconnected);
        assert_eq!(feed.watchers.len(), 1);
    }

    #[test]
    fn a_snapshot_ends_with_a_bookmark() {
        let mut feed = Feed::new(0);
        let watch = feed.watch_all(9, [stream(3), stream(7)].into_iter());
        let snapshot = v1::EventType::Snapshot;
        assert_eq!(revisions(&watch), [(snapshot, 3), (snapshot, 7), (v1::EventType::Bookmark, 9)]);
    }
}
