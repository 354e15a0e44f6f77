//! Matroska files (RFC 9559) of one video track, written as units come and read again after a crash. Pure: bytes in, bytes out.
//!
//! ```text
//!  Header ─▶ Muxer: unit, unit, ... checkpoint, unit, ... checkpoint ─▶ Finished: the header that takes the first one's place
//!                                                     (crash) scan ─▶ Recovered ──┘
//! ```
//! A file is good at each moment up to its last checkpoint, and plays while it is written: clusters are of unknown size, and what is
//! only known at the end (duration, seek points, length) stands in front of them, in room that was left for it.
//!
//! | module | owns |
//! |---|---|
//! | `header` | what stands before the first cluster |
//! | `muxer` | clusters, blocks, timestamps |
//! | `checkpoint` | how a file tells what of it is whole |
//! | `scan` | reading a file that was not finished |
//! | `blocks` | the units of a file |
//! | `cues` | seek points |
//! | `codec_private`, `nal` | parameter sets and NAL units as files have them |
//! | `ebml` | elements as bytes |

mod blocks;
mod checkpoint;
mod codec_private;
mod cues;
mod ebml;
mod header;
mod muxer;
mod nal;
mod scan;
#[cfg(test)]
mod tests;

pub use blocks::{StoredUnit, facts, units};
pub use codec_private::CodecPrivateError;
pub use cues::SeekPoint;
pub use header::{ALIGN, Header, HeaderFacts, TICK_NS, VideoTrack};
pub use muxer::{Finished, Frame, Muxer, Payload, Sink};
pub use scan::{Recovered, ScanError, scan};
