//! What the fuzz targets share. Each target plays a peer with any bytes and any order of steps, and holds what faces it to more
//! than not to crash. The camera's side, against the daemon's pure modules:
//!
//! | target | plays | holds |
//! |---|---|---|
//! | `framer` | bytes of a connection | portions make no difference, bounded memory, frames are found again or the connection is given up |
//! | `response` | a camera's RTSP, and time | what is sent can be read, goes to this host, in order; a deadline until PLAY; it ends when it is to |
//! | `sdp` | a description and its base | every list and set is bounded; line ends make no difference; URIs stay on the connection |
//! | `auth` | challenges, refusals, acceptance | answers are right by arithmetic of our own; bounded tries; no password after a digest |
//! | `rtp` | packets, their order, time | the parser, in portions and by its short way, is RFC 3550; order and media time are their plain models |
//! | `rtcp` | compounds, clocks that are set | reports are read and written as they stand; wall time says where it comes from, and is near |
//! | `h264`, `h265` | payloads, losses | portions make no difference; units are sound; every loss is told; the third good unit is whole |
//! | `camera` | all of that, networks, operators, time that jumps | legal states, deadlines that pass, bounded memory and output, no secret; a silent camera is tried again, and one that works streams again |
//!
//! The other side of the ring ABI, against `ring-abi`:
//!
//! | target | plays | holds |
//! |---|---|---|
//! | `handshake` | a reader's packets and the daemon's answers | nothing panics, no slot leaks or is given twice, answers decode |
//! | `cursor` | a reader that writes anything into its cursor page | nothing panics, bounded pushes, an honest reader gets all |
//! | `leases` | a reader that writes anything into its release ring | nothing panics, bounded steps, no frame is written over while held |
//! | `segments` | a producer that writes anything into its segments | nothing panics or leaves memory, the counts balance |
//!
//! `framer`, `response`, `sdp` and `auth` read their input nearly as it is, with dictionaries; the others read it as a list of
//! operations, so that any bytes are a script. Run them by `./tools/fuzz`. Of the inputs in `corpora` those with a name were made by
//! hand, and those with a hash for a name were kept by `./tools/fuzz --corpora`.

pub mod cuts;
pub mod dialogue;
pub mod machine;
pub mod memory;
pub mod packets;
pub mod script;
pub mod segment;
pub mod sink;
pub mod units;

pub use libfuzzer_sys::arbitrary::{Result, Unstructured};

/// A number as a hostile peer would choose it: small, near `around`, at an end of its range, or anything.
pub fn number(input: &mut Unstructured<'_>, around: u64) -> Result<u64> {
    Ok(match input.int_in_range(0..=4)? {
        0 => u64::from(input.arbitrary::<u8>()?),
        1 => around.wrapping_add(u64::from(input.arbitrary::<u8>()?)).wrapping_sub(128),
        2 => u64::MAX - u64::from(input.arbitrary::<u8>()?),
        3 => 1 << input.int_in_range(0..=63u32)?,
        _ => input.arbitrary()?,
    })
}

/// Whether an input has the password of the targets in it: then it is no leak that it comes out.
pub fn knows_the_password(data: &[u8]) -> bool {
    data.windows(6).any(|window| window == b"CANARY")
}
