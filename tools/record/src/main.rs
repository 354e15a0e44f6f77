//! `vms-record`: records what the daemon's policies say, or the streams that it is told.
//!
//! Threads: this one, which records; `follow`, which watches the daemon; `catalogue`; one `storage` thread a storage.

mod follow;
mod options;
mod serve;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use anyhow::Context;
use clap::Parser;
use rustix::event::{EventfdFlags, eventfd};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::options::Options;
use vms_record::cut::CutPolicy;
use vms_record::recorder::{self, Command, Recorder};
use vms_record::storage::Storage;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vms-record: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let (storage, report) =
        Storage::open(&options.dir, options.how(), options.memory_bytes(), options.limits(), options.json)
            .with_context(|| format!("cannot record at {}", options.dir.display()))?;
    for (what, paths) in [
        ("recovered", &report.recovered),
        ("empty, deleted", &report.empty),
        ("no recording, renamed", &report.unreadable),
        ("no longer there", &report.missing),
    ] {
        paths.iter().for_each(|path| eprintln!("vms-record: {}: {what}", path.display()));
    }
    let how = if storage.uses_uring() { "through io_uring" } else { "plainly" };
    eprintln!("vms-record: ready: {}, written {how}", options.dir.display());
    let socket = options.ring_socket()?;
    if let Some(listen) = options.listen()? {
        serve::start(&listen, options.dir.clone())?;
    }
    let policy = CutPolicy { segment_ns: options.segment_ns(), bytes_max: FILE_LEN_MAX };
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("no descriptor")?);
    let (sender, commands) = channel();
    let sender = Commands { sender, wake: Arc::clone(&wake) };
    stop_on_signals(sender.clone())?;
    let Some(reader) = recorder::connect(&socket, &wake).context("cannot wait")? else { return Ok(()) };
    let recorder = Recorder::new(reader, storage, policy);
    options.streams.iter().for_each(|id| sender.send(Command::Record(id.clone())));
    if options.streams.is_empty() {
        follow::start(options.server()?, sender)?;
    }
    recorder.run(&commands, &wake).context("the disk's ring is broken")
}

/// The way to the recorder.
#[derive(Clone, Debug)]
pub(crate) struct Commands {
    sender: Sender<Command>,
    wake: Arc<std::os::fd::OwnedFd>,
}

impl Commands {
    /// Tells the recorder something; nothing when it has ended.
    pub(crate) fn send(&self, command: Command) {
        if self.sender.send(command).is_ok() {
            // Never full: nobody adds 2^64.
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }
}

fn stop_on_signals(commands: Commands) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot catch signals")?;
    let wait = move || signals.forever().for_each(|_| commands.send(Command::Stop));
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).context("no thread")?;
    Ok(())
}

/// A file that is larger ends at its next keyframe: what every file system takes, and a scan after a crash reads in seconds.
const FILE_LEN_MAX: u64 = 2 << 30;
