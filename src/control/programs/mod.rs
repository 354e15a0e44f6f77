//! Reader programs that the daemon starts and looks after: a recorder, say. One that ends is started again, later each time;
//! what it says goes to the log; it ends with the daemon. Nothing of this touches a stream: to a shard they are readers like others.

mod keeper;
mod output;
mod restarts;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::ReaderProgram;
use crate::time::UnixNanos;

/// The programs of one daemon.
#[derive(Debug)]
pub(crate) struct Programs {
    keepers: JoinSet<()>,
    stop: watch::Sender<bool>,
    board: Board,
}

/// How each program is, for whoever asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<Vec<Program>>>);

/// How a program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// Its process, while it runs.
    pub(crate) pid: Option<u32>,
    /// Since when it runs, or waits.
    pub(crate) since: UnixNanos,
    /// How often it was started.
    pub(crate) starts: u64,
    /// How it ended last; empty when it never has.
    pub(crate) last_end: String,
}

impl Programs {
    /// Starts `programs`. Each is told the sockets by its environment: `VMS_RING_SOCKET`, and `VMS_CONTROL` as `--listen`
    /// has it.
    pub(crate) fn start(programs: &[ReaderProgram], sockets: &Sockets) -> Self {
        let (stop, stopping) = watch::channel(false);
        let board = Board::default();
        let mut keepers = JoinSet::new();
        for (index, program) in programs.iter().enumerate() {
            board.lock().push(Program {
                name: program.name.clone(),
                pid: None,
                since: UnixNanos(0),
                starts: 0,
                last_end: String::new(),
            });
            keepers.spawn(keeper::keep(
                program.clone(),
                sockets.clone(),
                board.clone(),
                index,
                stopping.clone(),
            ));
        }
        Self { keepers, stop, board }
    }

    /// How they are.
    pub(crate) fn board(&self) -> Board {
        self.board.clone()
    }

    /// Ends them all, politely at first; returns when they have ended.
    pub(crate) async fn stop(&mut self) {
        let _ = self.stop.send(true);
        while self.keepers.join_next().await.is_some() {}
    }
}

/// What a program is to know of the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    /// Where readers attach.
    pub(crate) ring: std::path::PathBuf,
    /// The first address of the control plane.
    pub(crate) control: String,
}

impl Board {
    /// All of them.
    pub(crate) fn programs(&self) -> Vec<Program> {
        self.lock().clone()
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Program)) {
        if let Some(program) = self.lock().get_mut(index) {
            change(program);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Program>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
