//! Checkpoints: what a recording says of itself while it grows, for who finds it after a crash.
//!
//! A checkpoint is a Void element, which players pass over. It closes each piece that is given to the disk, with the checksum of
//! all bytes since the checkpoint before (the first: since the header) and with the unit that came last. A file that was torn is
//! good up to the last checkpoint of an unbroken chain, and the recorder goes on right behind that unit.
//!
//! | off | | |
//! |---|---|---|
//! | 0 | 8 | `VMSCKPT1` |
//! | 8 | u64 | where the bytes begin that the checksum is of, from the file's begin |
//! | 16 | u64 | epoch of the stream |
//! | 24 | u64 | sequence number of the last unit |
//! | 32 | u32 | CRC-32 (IEEE) of the bytes from there up to this element |
//! | 36 | u32 | CRC-32 of the 36 bytes above |
//!
//! Numbers are little-endian. What stands behind, up to the element's end, is padding.

/// A checkpoint's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Where the checked bytes begin, counted from the file's begin.
    pub(super) from: u64,
    /// Epoch of the stream.
    pub(super) epoch: u64,
    /// The last unit in front of it.
    pub(super) seq: u64,
    /// Checksum of the bytes between.
    pub(super) crc: u32,
}

/// Bytes of a checkpoint, without its element's head and padding.
pub(super) const CHECKPOINT_LEN: usize = 40;

const MAGIC: [u8; 8] = *b"VMSCKPT1";

impl Checkpoint {
    pub(super) fn to_bytes(self) -> [u8; CHECKPOINT_LEN] {
        let mut bytes = [0; CHECKPOINT_LEN];
        let fields = [
            &MAGIC[..],
            &self.from.to_le_bytes(),
            &self.epoch.to_le_bytes(),
            &self.seq.to_le_bytes(),
            &self.crc.to_le_bytes(),
        ];
        let (head, crc) = bytes.split_at_mut(CHECKPOINT_LEN - 4);
        head.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        crc.copy_from_slice(&crc32fast::hash(head).to_le_bytes());
        bytes
    }

    /// Reads what may be a checkpoint.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (bytes, _) = bytes.split_first_chunk::<CHECKPOINT_LEN>()?;
        let (head, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(head) != u32::from_le_bytes(*crc) {
            return None;
        }
        let head = head.strip_prefix(&MAGIC)?;
        let (from, head) = head.split_first_chunk()?;
        let (epoch, head) = head.split_first_chunk()?;
        let (seq, head) = head.split_first_chunk()?;
        Some(Self {
            from: u64::from_le_bytes(*from),
            epoch: u64::from_le_bytes(*epoch),
            seq: u64::from_le_bytes(*seq),
            crc: u32::from_le_bytes(head.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_was_written_and_no_bit_may_differ() {
        let written = Checkpoint { from: 4096, epoch: 0x1122_3344_5566_7788, seq: 99, crc: 0xDEAD_BEEF };
        let bytes = written.to_bytes();
        assert_eq!(Checkpoint::read(&[&bytes[..], &[0; 9]].concat()), Some(written));
        assert_eq!(Checkpoint::read(&bytes[..CHECKPOINT_LEN - 1]), None);
        for bit in 0..8 * CHECKPOINT_LEN {
            let mut torn = bytes;
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Checkpoint::read(&torn), None, "{bit}");
        }
    }
}
