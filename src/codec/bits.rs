//! Bits of a NAL unit, without its emulation-prevention bytes (H.264 §7.4.1, H.265 §7.4.2).

/// Reads from the front; every read is `None` at the end, and nothing is ever read twice.
#[derive(Clone, Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Zero bytes right before `bytes`.
    zeros: u8,
    byte: u8,
    /// Bits of `byte` not yet read.
    left: u8,
}

impl<'a> Bits<'a> {
    /// The bits of `nal`, header included.
    pub(super) const fn new(nal: &'a [u8]) -> Self {
        Self { bytes: nal, zeros: 0, byte: 0, left: 0 }
    }

    /// The next bit, 0 or 1.
    pub(super) fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            self.byte = self.next_byte()?;
            self.left = 8;
        }
        self.left -= 1;
        Some(u32::from(self.byte >> self.left & 1))
    }

    /// The next `count` bits as a number; `count` is at most 32.
    pub(super) fn bits(&mut self, count: u8) -> Option<u32> {
        let mut value = 0_u32;
        for _ in 0..count {
            value = value << 1 | self.bit()?;
        }
        Some(value)
    }

    /// The next byte; for reading bytewise from a byte boundary.
    pub(super) fn byte(&mut self) -> Option<u8> {
        if self.left == 0 {
            return self.next_byte();
        }
        self.bits(8).and_then(|byte| u8::try_from(byte).ok())
    }

    /// Passes over `count` bits.
    pub(super) fn skip(&mut self, mut count: u32) -> Option<()> {
        while self.left > 0 && count > 0 {
            self.bit()?;
            count -= 1;
        }
        // Without its emulation prevention the rest is shorter still: a message that was cut off is not walked through.
        if self.bytes.len() < (count / 8) as usize {
            self.bytes = &[];
            return None;
        }
        for _ in 0..count / 8 {
            self.next_byte()?;
        }
        for _ in 0..count % 8 {
            self.bit()?;
        }
        Some(())
    }

    /// An unsigned Exp-Golomb number, `ue(v)`; `None` also when it does not fit 32 bits.
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0_u8;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros == 32 {
                return None;
            }
        }
        let offset = (1_u32 << zeros) - 1;
        offset.checked_add(self.bits(zeros)?)
    }

    fn next_byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        if byte == 3 && self.zeros >= 2 {
            self.zeros = 0;
            return self.next_byte();
        }
        self.zeros = if byte == 0 { (self.zeros + 1).min(2) } else { 0 };
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers() {
        // 1 | 010 | 011 | 00100 | 0...
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0000]);
        assert_eq!([bits.ue(), bits.ue(), bits.ue(), bits.ue()], [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(bits.ue(), None);
    }

    #[test]
    fn drops_emulation_prevention() {
        let mut bits = Bits::new(&[0, 0, 3, 1, 0, 0, 3]);
        assert_eq!(bits.bits(24), Some(1));
        assert_eq!(bits.bits(16), Some(0));
        assert_eq!(bits.bit(), None);
        // Two in a row is no legal stream, but must not be read as data either.
        assert_eq!(Bits::new(&[0, 0, 3, 0, 0, 3, 7]).bits(32), Some(0));
    }

    #[test]
    fn skipping_is_reading_bit_by_bit() {
        let bytes = [0xa5, 0, 0, 3, 1, 0x5a, 0, 0, 3, 0, 0, 3, 0xff, 0x81];
        for (before, count) in (0..20).flat_map(|before| (0..100).map(move |count| (before, count))) {
            let mut skipped = Bits::new(&bytes);
            let mut read = Bits::new(&bytes);
            (0..before).for_each(|_| assert_eq!(skipped.bit(), read.bit()));
            let is_there = (0..count).all(|_| read.bit().is_some());
            assert_eq!(skipped.skip(count).is_some(), is_there, "{before} {count}");
            assert_eq!(
                (skipped.byte(), skipped.bit()),
                (read.bits(8).and_then(|byte| u8::try_from(byte).ok()), read.bit())
            );
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_none() {
        assert_eq!(Bits::new(&[0; 8]).ue(), None);
        assert_eq!(Bits::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).ue(), Some(u32::MAX - 1));
    }
}
