//! The loop: units from the rings into recordings, bytes to the disk, once a tick everything flushed and synced. One thread for all
//! streams; it waits for a descriptor and never for the disk.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use ring_abi::consumer::{Configuration, Event, Options, Reader, Retry, StreamKey, Unit};
use ring_abi::join::{From, Join};
use ring_abi::layout::{Class, Descriptor};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::cut::CutPolicy;
use crate::recording::{Recording, RingUnit};
use crate::storage::{Outcome, Storage};

/// What the recorder is told while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Record this stream from now on.
    Record(String),
    /// No longer.
    Forget(String),
    /// End all files and stop.
    Stop,
}

/// Records streams of one daemon on one storage.
#[derive(Debug)]
pub struct Recorder {
    reader: Reader,
    storage: Storage,
    policy: CutPolicy,
    streams: BTreeMap<String, Stream>,
    by_key: BTreeMap<StreamKey, String>,
    /// A unit whose configuration is new.
    copied: CopiedUnit,
    /// The daemon has gone: when it is looked for again.
    lost: Option<Later>,
    /// The disk has failed files: when something is recorded again.
    disk: Later,
    /// When everything is flushed next.
    flush_at: Duration,
    /// The attach socket has something to say.
    is_spoken_to: bool,
}

#[derive(Debug)]
struct Stream {
    recording: Recording,
    key: Option<StreamKey>,
    /// What decodes the units that come.
    configuration: Option<Configuration>,
    /// Where to go on: epoch and number of the last unit that was dealt with.
    last: Option<(u64, u64)>,
    later: Later,
}

/// When something is tried again.
#[derive(Debug, Default)]
struct Later {
    at: Duration,
    retry: Retry,
}

impl Later {
    fn failed(&mut self, now: Duration) {
        self.at = now.saturating_add(self.retry.wait());
    }
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There may be more to do at once.
    Again,
    /// Nothing is to be done until a descriptor is readable or a time has come.
    Idle,
}

impl Recorder {
    /// Records what `reader` reads, which was opened by [`connect`].
    pub fn new(reader: Reader, storage: Storage, policy: CutPolicy) -> Self {
        Self {
            reader,
            storage,
            policy,
            streams: BTreeMap::new(),
            by_key: BTreeMap::new(),
            copied: CopiedUnit::default(),
            lost: None,
            disk: Later::default(),
            flush_at: Duration::ZERO,
            is_spoken_to: false,
        }
    }

    /// Runs until it is told to stop; `wake` is readable when there is a command.
    ///
    /// # Errors
    /// When the kernel refuses to wait, or the disk's ring is broken.
    pub fn run(mut self, commands: &Receiver<Command>, wake: &OwnedFd) -> io::Result<()> {
        loop {
            let now = monotonic();
            let mut count = [0; 8];
            let _ = rustix::io::read(wake, &mut count);
            loop {
                match commands.try_recv() {
                    Ok(Command::Record(stream)) => self.record(stream),
                    Ok(Command::Forget(stream)) => self.forget(&stream),
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return self.stop(),
                    Err(TryRecvError::Empty) => break,
                }
            }
            self.attach(now);
            let turn = self.take_units(now);
            if now >= self.flush_at {
                self.flush_at = now.saturating_add(FLUSH_INTERVAL);
                self.storage.flush(self.streams.values_mut().map(|stream| &mut stream.recording));
            }
            for outcome in self.storage.turn()? {
                self.storage_says(outcome, now);
            }
            if turn == Turn::Idle {
                self.wait(wake, now)?;
            }
        }
    }

    fn record(&mut self, id: String) {
        let (storage, policy) = (&self.storage, self.policy);
        self.streams.entry(id).or_insert_with_key(|id| {
            let stopped = storage.last_unit(id);
            Stream {
                recording: Recording::new(id, policy, stopped),
                key: None,
                configuration: None,
                last: stopped.map(|stopped| (stopped.epoch, stopped.seq)),
                later: Later::default(),
            }
        });
    }

    fn forget(&mut self, id: &str) {
        let Some(mut stream) = self.streams.remove(id) else { return };
        self.storage.end(&mut stream.recording);
        if let Some(key) = stream.key {
            self.by_key.remove(&key);
            // What the producer answers changes nothing for us.
            let _ = self.reader.detach(key);
        }
    }

    fn storage_says(&mut self, outcome: Outcome, now: Duration) {
        match outcome {
            Outcome::Durable(file, offset) => {
                self.disk.retry.succeeded();
                self.streams.values_mut().for_each(|stream| stream.recording.durable(file, offset));
            }
            Outcome::Failed(file, path) => {
                self.disk.failed(now);
                let open = self.streams.values_mut().find_map(|stream| {
                    let (seq, end) = stream.recording.lost_file(file)?;
                    // What did not reach the disk is read again, as far as the ring still has it.
                    stream.last = Some((stream.recording.epoch(), seq));
                    Some((stream.key.take(), end))
                });
                // A file that had ended already may have all of it on the disk.
                let (key, end) = open.unwrap_or((None, u64::MAX));
                self.storage.save(path, end);
                if let Some(key) = key {
                    self.by_key.remove(&key);
                    // What the producer answers changes nothing for us.
                    let _ = self.reader.detach(key);
                }
            }
        }
    }

    /// Ends all files, and waits until they are on the disk.
    fn stop(mut self) -> io::Result<()> {
        self.streams.values_mut().for_each(|stream| self.storage.end(&mut stream.recording));
        let end = monotonic().saturating_add(STOP_TIMEOUT);
        while self.storage.is_busy() && monotonic() < end {
            self.storage.turn()?;
            wait_for(&[self.storage.event_fd()], Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Attaches what is to be recorded and is not attached.
    fn attach(&mut self, now: Duration) {
        if let Some(later) = &mut self.lost {
            if now < later.at {
                return;
            }
            if self.reader.reconnect().is_err() {
                return later.failed(now);
            }
            self.lost = None;
        }
        if now < self.disk.at {
            return;
        }
        for (id, stream) in &mut self.streams {
            if stream.key.is_some() || now < stream.later.at {
                continue;
            }
            let from = stream.last.map_or(From::Keyframe, |(epoch, seq)| From::After { epoch, seq });
            match self.reader.attach(id, &Join::new(Class::Archive, from)) {
                Ok((key, answer)) => {
                    stream.key = Some(key);
                    stream.recording.attached(answer.epoch);
                    stream.later.retry.succeeded();
                    self.by_key.insert(key, id.clone());
                }
                Err(_) => stream.later.failed(now),
            }
        }
    }

    /// Takes what is in the rings.
    fn take_units(&mut self, now: Duration) -> Turn {
        for _ in 0..UNITS_A_TURN {
            if !self.storage.has_room() {
                // Units stay in the rings until the disk has given back some blocks.
                return Turn::Idle;
            }
            let event = if std::mem::take(&mut self.is_spoken_to) {
                Some(self.reader.next(Some(LOOK)))
            } else {
                self.reader.try_next()
            };
            match event {
                None | Some(Event::Timeout) => return Turn::Idle,
                Some(Event::Unit(unit)) if unit.config_changed => {
                    // It has to be let go before the reader can be asked for anything else.
                    self.copied.copy(&unit);
                    let key = unit.stream;
                    self.take_copied(key);
                }
                Some(Event::Unit(unit)) => {
                    let stream = self.by_key.get(&unit.stream).and_then(|id| self.streams.get_mut(id));
                    if let Some(stream) = stream {
                        let Unit { descriptor, payload, nal_ends, lost, .. } = unit;
                        stream.take(descriptor, payload, nal_ends, lost, &mut self.storage);
                    }
                }
                Some(Event::Ended(ended)) => self.detached(ended.stream, now),
                Some(Event::ProducerGone) => {
                    self.producer_gone(now);
                    return Turn::Idle;
                }
            }
        }
        Turn::Again
    }

    fn take_copied(&mut self, key: StreamKey) {
        let CopiedUnit { descriptor, payload, nal_ends, lost } = &self.copied;
        let configuration = self.reader.configuration(key, descriptor.track).cloned();
        if let Some(stream) = self.by_key.get(&key).and_then(|id| self.streams.get_mut(id)) {
            stream.configuration = configuration;
            stream.take(descriptor, payload, nal_ends, *lost, &mut self.storage);
        }
    }

    /// A stream's ring has ended: it is attached again a little later.
    fn detached(&mut self, key: StreamKey, now: Duration) {
        if let Some(stream) = self.by_key.remove(&key).and_then(|id| self.streams.get_mut(&id)) {
            stream.key = None;
            stream.later.failed(now);
        }
        // What the producer answers changes nothing for us.
        let _ = self.reader.detach(key);
    }

    fn producer_gone(&mut self, now: Duration) {
        self.lost.get_or_insert_default().failed(now);
        self.by_key.clear();
        self.streams.values_mut().for_each(|stream| stream.key = None);
    }

    /// Waits until there is something to be done.
    fn wait(&mut self, wake: &OwnedFd, now: Duration) -> io::Result<()> {
        let due = self.streams.values().filter(|stream| stream.key.is_none()).map(|stream| stream.later.at);
        let due = match &self.lost {
            Some(later) => later.at,
            // Nothing is attached before the disk is tried again.
            None => due.min().map_or(self.flush_at, |due| due.max(self.disk.at)),
        };
        let left = due.min(self.flush_at).saturating_sub(now);
        let (attach, disk) = (self.reader.as_fd(), self.storage.event_fd());
        // A session that has ended stays readable for ever; one without room for units would wake us for those that are there.
        let is_attached = self.lost.is_none();
        let notify = self.reader.notify_fd().filter(|_| is_attached && self.storage.has_room());
        let fds: Vec<_> = [Some(wake.as_fd()), Some(disk), notify, is_attached.then_some(attach)]
            .into_iter()
            .flatten()
            .collect();
        let readable = wait_for(&fds, left)?;
        self.is_spoken_to = is_attached && readable.last() == Some(&true);
        Ok(())
    }
}

/// Opens a session with the daemon whose ring socket is at `ring_socket`. Waits until there is one; `None` when `wake` is readable before.
///
/// # Errors
/// When the kernel refuses to wait.
pub fn connect(ring_socket: &Path, wake: &OwnedFd) -> io::Result<Option<Reader>> {
    let options = Options {
        name: "vms-record".to_owned(),
        slots: SLOTS,
        bell_interval: BELL_INTERVAL,
        notify: true,
        ..Options::default()
    };
    let mut retry = Retry::default();
    let mut is_told = false;
    loop {
        match Reader::connect(ring_socket, &options) {
            Ok(reader) => return Ok(Some(reader)),
            Err(error) if !is_told => {
                eprintln!("vms-record: {}: {error}; waiting for the daemon", ring_socket.display());
                is_told = true;
            }
            Err(_) => {}
        }
        if wait_for(&[wake.as_fd()], retry.wait())? == [true] {
            return Ok(None);
        }
    }
}

impl Stream {
    fn take(
        &mut self,
        descriptor: &Descriptor,
        payload: &[u8],
        nal_ends: &[u32],
        lost: u64,
        storage: &mut Storage,
    ) {
        self.last = Some((self.recording.epoch(), descriptor.seq));
        let configuration = self.configuration.as_ref();
        storage.record(&mut self.recording, &RingUnit { descriptor, payload, nal_ends, lost, configuration });
    }
}

/// A unit that the reader has let go.
#[derive(Debug, Default)]
struct CopiedUnit {
    descriptor: Descriptor,
    payload: Vec<u8>,
    nal_ends: Vec<u32>,
    lost: u64,
}

impl CopiedUnit {
    fn copy(&mut self, unit: &Unit<'_>) {
        self.descriptor = *unit.descriptor;
        self.payload.clear();
        self.payload.extend_from_slice(unit.payload);
        self.nal_ends.clear();
        self.nal_ends.extend_from_slice(unit.nal_ends);
        self.lost = unit.lost;
    }
}

/// Waits until one of the descriptors is readable, at most so long; which are.
fn wait_for(fds: &[std::os::fd::BorrowedFd<'_>], at_most: Duration) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let tv_sec = i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX);
    let timeout = Timespec { tv_sec, tv_nsec: at_most.subsec_nanos().into() };
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
        Err(error) => Err(error.into()),
    }
}

/// Time since boot.
fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    // The clock counts from boot, so neither part is negative.
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

/// Streams that can be recorded at once.
const SLOTS: u32 = 1024;
/// Units may wait so long in their rings: the fewer wake-ups, the less work.
const BELL_INTERVAL: Duration = Duration::from_millis(50);
/// What was recorded is given to the disk so often. Until it is there passes this, and what a write and a sync take: together less than
/// a second on a disk that keeps up.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// So many units, and then the disk has its turn.
const UNITS_A_TURN: u32 = 256;
/// How long the files' ends may take when the recorder stops; what is left then is put right by the next start.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// Long enough for a look at the attach socket.
const LOOK: Duration = Duration::from_micros(1);
