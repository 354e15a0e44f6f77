//! Starts a shard's thread and waits until it stands.

use std::io as std_io;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use core_affinity::CoreId;
use ringbuf::traits::Split;
use ringbuf::{HeapCons, HeapRb};

use super::command::Command;
use super::connects::Connects;
use super::events::EventSender;
use super::gate::Gate;
use super::handle::{CommandSender, EventReceiver};
use super::pacing::Pacing;
use super::turn::Shard;
use crate::io::{Backend, BackendKind, Config as IoConfig, Errno, SetupError, Waker, wake_pair};
use crate::limits::{COMMAND_QUEUE_LEN, EVENT_QUEUE_LEN};

/// What a shard is made of.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which one, from 0; in the thread's name.
    pub index: usize,
    /// Where it runs; `None`: wherever the kernel likes.
    pub core: Option<CoreId>,
    /// How long it may gather when it is busy. Zero: never.
    pub latency: Duration,
    /// Whose turn it is to connect, of its cameras and those of other shards.
    pub connects: Connects,
    /// What carries its bytes.
    pub backend: BackendKind,
    /// Its sockets and buffers.
    pub io: IoConfig,
}

/// A running shard.
#[derive(Debug)]
pub struct ShardHandle {
    /// What it is told.
    pub commands: CommandSender,
    /// What it tells.
    pub events: EventReceiver,
    /// Ends after [`Command::Shutdown`], or when `commands` is dropped.
    pub thread: JoinHandle<()>,
}

/// Why a shard did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// no eventfd
    #[error("no eventfd for the shard's events")]
    Bell(#[source] Errno),
    /// no thread
    #[error("no thread for the shard")]
    Thread(#[source] std_io::Error),
    /// no io_uring, although [`probe`](crate::io::probe) had one, or no epoll
    #[error("the shard's way to its sockets")]
    Io(#[source] SetupError),
    /// it panicked while starting: a bug
    #[error("the shard ended while it started")]
    Ended,
}

/// Starts a thread, pins it, and makes its ring in it. Returns when it is ready.
///
/// # Errors
/// [`StartError`]; no thread is left behind.
pub fn spawn(config: ShardConfig) -> Result<ShardHandle, StartError> {
    let (command_producer, command_consumer) = HeapRb::new(COMMAND_QUEUE_LEN).split();
    let (event_producer, event_consumer) = HeapRb::new(EVENT_QUEUE_LEN).split();
    let (bell, bell_source) = wake_pair().map_err(StartError::Bell)?;
    let events = EventSender::new(event_producer, bell);
    let (ready, is_ready) = mpsc::channel();
    let thread = Builder::new()
        .name(format!("shard-{}", config.index))
        .spawn(move || run(config, events, command_consumer, &ready))
        .map_err(StartError::Thread)?;
    let waker = is_ready.recv().map_err(|_| StartError::Ended)?.map_err(StartError::Io)?;
    let commands = CommandSender::new(command_producer, waker);
    Ok(ShardHandle { commands, events: EventReceiver::new(event_consumer, bell_source), thread })
}

fn run(
    config: ShardConfig,
    events: EventSender,
    commands: HeapCons<Command>,
    ready: &mpsc::Sender<Result<Waker, SetupError>>,
) {
    if let Some(core) = config.core
        && !core_affinity::set_for_current(core)
    {
        tracing::warn!(shard = config.index, core = core.id, "could not be pinned to its core");
    }
    // Here, not in `spawn`: a ring belongs to the thread that makes it.
    let io = match Backend::new(config.backend, config.io) {
        Ok(io) => io,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    if ready.send(Ok(io.waker())).is_err() {
        return;
    }
    let mut shard = Shard::new(io, events, commands, Pacing::new(config.latency), Gate::new(config.connects));
    if let Err(error) = shard.run() {
        tracing::error!(shard = config.index, %error, "the shard cannot go on");
    }
}
