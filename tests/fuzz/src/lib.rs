//! What the fuzz targets share. Each target plays one side's peer with any bytes and any order of steps:
//!
//! | target | plays | holds |
//! |---|---|---|
//! | `handshake` | a reader's packets and the daemon's answers | nothing panics, no slot leaks or is given twice, answers decode |
//! | `cursor` | a reader that writes anything into its cursor page | nothing panics, bounded pushes, an honest reader gets all |
//! | `leases` | a reader that writes anything into its release ring | nothing panics, bounded steps, no frame is written over while held |
//! | `segments` | a producer that writes anything into its segments | nothing panics or leaves memory, the counts balance |
//!
//! A target reads its input as a list of operations, so that any bytes are a script. Run them by `./tools/fuzz`.

pub mod segment;

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
