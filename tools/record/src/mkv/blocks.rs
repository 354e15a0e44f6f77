//! The units of a file that is in memory.

use super::ebml;
use super::header::{HeaderFacts, WrittenHeader};

/// A unit, as a file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredUnit<'a> {
    /// Timestamp in ticks of the file.
    pub ticks: i64,
    /// Playing can start here.
    pub is_key: bool,
    /// No other unit refers to it.
    pub is_disposable: bool,
    /// NAL units, each behind its length in four bytes.
    pub payload: &'a [u8],
}

/// What the header of a file says; `None` when it has none of ours.
pub fn facts(file: &[u8]) -> Option<HeaderFacts> {
    WrittenHeader::read(file)?.facts()
}

/// The units of a file of ours up to where it is not as it must be; `None` when it has no header of ours.
pub fn units(file: &[u8]) -> Option<impl Iterator<Item = StoredUnit<'_>>> {
    let header = WrittenHeader::read(file)?;
    let mut rest = file.get(header.len()..)?;
    let mut cluster = 0_u64;
    Some(std::iter::from_fn(move || {
        loop {
            let head = ebml::head(rest)?;
            let content = rest.get(head.len..)?;
            let Some(size) = head.size else {
                // A cluster: what is in it follows.
                rest = (head.id == ebml::CLUSTER).then_some(content)?;
                continue;
            };
            let (content, behind) = content.split_at_checked(usize::try_from(size).ok()?)?;
            rest = behind;
            match head.id {
                ebml::TIMESTAMP => cluster = ebml::number(content)?,
                ebml::SIMPLE_BLOCK => {
                    let ([_, high, low, flags], payload) = content.split_first_chunk()?;
                    let offset = i64::from(i16::from_be_bytes([*high, *low]));
                    let ticks = i64::try_from(cluster).ok()?.checked_add(offset)?;
                    return Some(StoredUnit {
                        ticks,
                        is_key: flags & 0x80 != 0,
                        is_disposable: flags & 1 != 0,
                        payload,
                    });
                }
                ebml::VOID => {}
                ebml::Id(_) => return None,
            }
        }
    }))
}
