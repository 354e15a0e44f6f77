//! The measurements. Each compares within one run: the peers take turns, round by round, and a row's ratio is the median of the
//! rounds' ratios.

pub(crate) mod attach;
pub(crate) mod bell;
pub(crate) mod isolation;
pub(crate) mod latency;
pub(crate) mod leftovers;
pub(crate) mod publish;
pub(crate) mod throughput;

use std::path::Path;

use anyhow::Result;

use crate::floor::FloorWriter;
use crate::host::Host;
use crate::iox::IoxWriter;
use crate::peer::{Peer, ReaderProcess, Shape};
use crate::table::Series;

/// What every measurement is given.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    /// A folder for sockets and the like.
    pub(crate) scratch: &'a Path,
    /// How often the peers take turns.
    pub(crate) rounds: usize,
}

/// The three peers, each with readers in a process of its own.
#[derive(Debug)]
pub(crate) struct Trio {
    pub(crate) ours: (Host, ReaderProcess),
    pub(crate) floor: (FloorWriter, ReaderProcess),
    pub(crate) iox: (IoxWriter, ReaderProcess),
}

impl Trio {
    /// Sets all of them up in `shape`.
    pub(crate) fn start(scratch: &Path, shape: Shape) -> Result<Self> {
        let mut ours = Host::create(&scratch.join("ring"), shape)?;
        let ours_reader = ReaderProcess::start(Peer::Ours, &mut ours, shape)?;
        let mut floor = FloorWriter::create(shape)?;
        let floor_reader = ReaderProcess::start(Peer::Floor, &mut floor, shape)?;
        let mut iox = IoxWriter::create(&scratch.join("iceoryx2"), shape)?;
        let iox_reader = ReaderProcess::start(Peer::Iceoryx2, &mut iox, shape)?;
        Ok(Self { ours: (ours, ours_reader), floor: (floor, floor_reader), iox: (iox, iox_reader) })
    }
}

/// One series of each peer.
#[derive(Debug, Default)]
pub(crate) struct Triple {
    pub(crate) ours: Series,
    pub(crate) floor: Series,
    pub(crate) iox: Series,
}

/// A payload of `len` bytes that is not all the same.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 256) as u8).collect()
}
