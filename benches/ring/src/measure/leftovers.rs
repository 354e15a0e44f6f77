//! Names that remain when a producer and its reader are killed with SIGKILL in the middle of their work.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Bench, payload};
use crate::board::{Board, Mode};
use crate::host::Host;
use crate::iox::{IoxWriter, prefix, remove_shared_memory};
use crate::machine::nap;
use crate::peer::{Peer, ReaderProcess, Shape, Writer, this_program};
use crate::table::{Bound, Row, Series};

const SHAPE: Shape = Shape::one_stream(1, 64);

/// Counts them, and takes them away.
pub(crate) fn leftovers(bench: &Bench<'_>) -> Result<Vec<Row>> {
    [Peer::Ours, Peer::Iceoryx2].into_iter().map(|peer| one_peer(bench, peer)).collect()
}

fn one_peer(bench: &Bench<'_>, peer: Peer) -> Result<Row> {
    let folder = bench.scratch.join(format!("left-{}", peer.name()));
    std::fs::create_dir_all(&folder)?;
    let shm_before = names(Path::new("/dev/shm"));
    kill_both(peer, &folder)?;
    let shm = names(Path::new("/dev/shm")).difference(&shm_before).count();
    let files = files_below(&folder)?;
    remove_shared_memory(&prefix(&folder));
    std::fs::remove_dir_all(&folder)?;
    let count = |n: usize| Series(vec![n as f64]);
    let bound = (peer == Peer::Ours).then_some(Bound::AtMost(0.0));
    Ok(Row::new(format!("{}: both killed", peer.name()), "names")
        .value("in /dev/shm", &count(shm))
        .value("files and sockets", &count(files))
        .check("shared memory", count(shm), bound))
}

/// A producer process and a reader process that have exchanged units, killed.
fn kill_both(peer: Peer, folder: &Path) -> Result<()> {
    let board = Board::create()?;
    let arguments = [
        "party".to_owned(),
        peer.name().to_owned(),
        board.path().display().to_string(),
        folder.display().to_string(),
    ];
    let mut party = this_program()?.args(arguments).spawn()?;
    let mut waited = 0;
    while board.taken() < 100 && waited < 10_000 && party.try_wait()?.is_none() {
        nap(Duration::from_millis(1));
        waited += 1;
    }
    let exchanged = board.taken();
    // The reader is the party's child, and dies first: its number is on the board.
    let reader = i32::try_from(board.ordered()).ok().and_then(rustix::process::Pid::from_raw);
    let killed = reader.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
    party.kill()?;
    party.wait()?;
    ensure!(exchanged >= 100 && killed == Some(Ok(())), "the parties exchanged {exchanged} units");
    nap(Duration::from_millis(50));
    Ok(())
}

/// The producing process: publishes until it is killed.
pub(crate) fn party(peer: Peer, board: &Board, folder: &Path) -> Result<()> {
    match peer {
        Peer::Ours => produce(peer, Host::create(&folder.join("ring"), SHAPE)?, board),
        Peer::Iceoryx2 => produce(peer, IoxWriter::create(folder, SHAPE)?, board),
        Peer::Floor => anyhow::bail!("the floor has no names"),
    }
}

fn produce(peer: Peer, mut writer: impl Writer, board: &Board) -> Result<()> {
    let reader = ReaderProcess::start(peer, &mut writer, SHAPE)?;
    reader.board.set_mode(Mode::Poll)?;
    board.order(reader.id().into());
    let bytes = payload(64);
    loop {
        writer.tick()?;
        writer.publish(&bytes)?;
        board.set_taken(reader.board.taken());
        nap(Duration::from_micros(100));
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}

/// Everything below `folder` that is not a folder.
fn files_below(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).context("the run's folder")? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { files_below(&entry.path())? } else { 1 };
    }
    Ok(count)
}
