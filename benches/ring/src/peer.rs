//! What is compared: three ways to hand a unit to readers in other processes, behind one pair of traits.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::board::{Board, Mode};
use crate::machine::{self, PRODUCER_CORE, READER_CORE};

/// The three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The ring ABI, by the `ring-abi` crate.
    Ours,
    /// A bare SPSC ring of 128-byte records, and `memcpy`.
    Floor,
    /// iceoryx2, publish-subscribe (and events, to wake).
    Iceoryx2,
}

impl Peer {
    /// Its name on the command line and in the results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Floor => "floor",
            Self::Iceoryx2 => "iceoryx2",
        }
    }

    /// The peer of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Ours, Self::Floor, Self::Iceoryx2].into_iter().find(|peer| peer.name() == name)
    }
}

/// What a comparison is set up with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Readers of the stream.
    pub(crate) readers: usize,
    /// Streams that each reader reads.
    pub(crate) streams: usize,
    /// Readers that may come later, in other processes.
    pub(crate) spare: usize,
    /// Largest payload, bytes.
    pub(crate) payload_max: usize,
    /// Bytes of the arena, of those that have one.
    pub(crate) arena_len: usize,
}

impl Shape {
    /// One stream with the arena that the daemon gives it.
    pub(crate) const fn one_stream(readers: usize, payload_max: usize) -> Self {
        Self { readers, streams: 1, spare: 0, payload_max, arena_len: 8 << 20 }
    }
}

/// The side that publishes.
pub(crate) trait Writer {
    /// Publishes one unit to all readers; wakes nobody.
    fn publish(&mut self, payload: &[u8]) -> Result<()>;

    /// Ends a turn: wakes who sleeps.
    fn wake(&mut self) -> Result<()>;

    /// What is to be done now and then, outside of measured time.
    fn tick(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes in readers that a process just started; until `done`.
    fn admit(&mut self, done: &mut dyn FnMut() -> bool) -> Result<()>;

    /// What a reader process must be told to find this.
    fn place(&self) -> String;
}

/// The side that reads, in another process.
pub(crate) trait Tap {
    /// The next unit, if there is one, copied into private memory.
    fn take(&mut self) -> Result<Option<&[u8]>>;

    /// The next unit, after sleeping for it some 50 ms at most.
    fn wait(&mut self) -> Result<Option<&[u8]>>;
}

/// A reader process. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ReaderProcess {
    child: Child,
    /// Its taps.
    pub(crate) readers: usize,
    /// What it shares with us.
    pub(crate) board: Board,
}

impl ReaderProcess {
    /// Starts a process with `shape.readers` taps on `writer`, pinned to the readers' core; idle.
    pub(crate) fn start(peer: Peer, writer: &mut impl Writer, shape: Shape) -> Result<Self> {
        let board = Board::create()?;
        let arguments = [
            "reader".to_owned(),
            peer.name().to_owned(),
            board.path().display().to_string(),
            writer.place(),
            shape.readers.to_string(),
            shape.streams.to_string(),
        ];
        let child = spawn_on_reader_core(this_program()?.args(arguments))?;
        let process = Self { child, readers: shape.readers, board };
        let mut tries = 0;
        writer.admit(&mut || {
            tries += 1;
            process.board.has_entered(Mode::Idle) || tries > 10_000
        })?;
        process.board.wait_entered(Mode::Idle).with_context(|| format!("reader of {}", peer.name()))?;
        Ok(process)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for ReaderProcess {
    fn drop(&mut self) {
        // It may be stopped or dead already; SIGKILL and wait work for all.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program again.
pub(crate) fn this_program() -> Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

/// Starts a process that stays on the readers' core.
pub(crate) fn spawn_on_reader_core(command: &mut Command) -> Result<Child> {
    machine::pin(READER_CORE)?;
    let child = command.stdin(Stdio::null()).spawn();
    machine::pin(PRODUCER_CORE)?;
    child.with_context(|| format!("starting {:?}", command.get_program()))
}

/// The reader process's loop: does what the board says.
pub(crate) fn read(taps: &mut [impl Tap], board: &Board) -> Result<()> {
    loop {
        match board.enter() {
            Mode::Idle => board.sleep(),
            Mode::Poll => poll(taps, board, Mode::Poll, |_| {})?,
            Mode::PollLatency => poll(taps, board, Mode::PollLatency, |payload| board.note(age(payload)))?,
            Mode::WaitLatency => wait(taps, board)?,
            Mode::Drain => drain(taps, board)?,
            Mode::Exit => return Ok(()),
        }
        board.set_cpu_ns(machine::thread_cpu_ns());
    }
}

fn poll(taps: &mut [impl Tap], board: &Board, mode: Mode, each: impl Fn(&[u8])) -> Result<()> {
    let mut taken = board.taken();
    while board.is(mode) {
        for tap in &mut *taps {
            if let Some(payload) = tap.take()? {
                each(payload);
                taken += 1;
                board.set_taken(taken);
            }
        }
    }
    Ok(())
}

fn wait(taps: &mut [impl Tap], board: &Board) -> Result<()> {
    let mut taken = board.taken();
    let [tap] = taps else { anyhow::bail!("one reader can sleep in a process") };
    while board.is(Mode::WaitLatency) {
        if let Some(payload) = tap.wait()? {
            board.note(age(payload));
            taken += 1;
            board.set_taken(taken);
        }
    }
    Ok(())
}

fn drain(taps: &mut [impl Tap], board: &Board) -> Result<()> {
    let mut taken = board.taken();
    while board.is(Mode::Drain) {
        let ordered = board.ordered();
        if ordered <= taken {
            std::hint::spin_loop();
            continue;
        }
        let since = machine::now_ns();
        while taken < ordered && board.is(Mode::Drain) {
            for tap in &mut *taps {
                taken += u64::from(tap.take()?.is_some());
            }
        }
        board.add_drained_ns(machine::now_ns() - since);
        board.set_taken(taken);
    }
    Ok(())
}

/// How long ago the payload's stamp was taken, ns; 0 without one.
fn age(payload: &[u8]) -> u64 {
    let stamp = payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if stamp == 0 { 0 } else { machine::now_ns().saturating_sub(stamp) }
}

/// Scratch folder of one run; removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: std::path::PathBuf,
}

impl Scratch {
    /// A new folder below the system's folder for such. Its name is short because it becomes part of iceoryx2's names, which
    /// the system limits.
    pub(crate) fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("vmsrb.{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Of iceoryx2, processes that were killed leave names behind.
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        crate::iox::remove_shared_memory(&name.unwrap_or_default());
        // What cannot be removed is left to the system's own clean-up.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
