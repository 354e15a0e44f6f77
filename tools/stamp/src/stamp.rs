//! Writing the stamp into a template, and finding it in an access unit.

use crate::annexb;
use crate::base128::{self, U32_LEN, U64_LEN};
use crate::nal::{self, Codec, UUID_LEN};

/// Longest stamp NAL unit, in bytes (H.265, whose NAL header has two bytes).
pub const NAL_LEN_MAX: usize = 2 + 2 + PAYLOAD_LEN + 1;

/// A stamp NAL unit, ready to send once [`patch`](Self::patch) has set counter and time.
#[derive(Debug, Clone, Copy)]
pub struct StampNal {
    bytes: [u8; NAL_LEN_MAX],
    len: usize,
    /// Where the fields start in `bytes`.
    fields: usize,
}

impl StampNal {
    /// A stamp for an access unit whose other NAL units have the checksum `unit_crc` (see [`unit_crc`]);
    /// counter and time are 0.
    #[must_use]
    pub fn new(codec: Codec, unit_crc: u32) -> Self {
        let mut nal = Vec::with_capacity(NAL_LEN_MAX);
        nal.extend_from_slice(codec.sei_header());
        nal.extend_from_slice(&[nal::PAYLOAD_TYPE, PAYLOAD_SIZE]);
        nal.extend_from_slice(UUID);
        let fields = nal.len();
        nal.resize(fields + FIELDS_LEN, 0);
        nal.push(nal::TRAILING_BITS);

        let mut bytes = [0; NAL_LEN_MAX];
        let len = nal.len();
        bytes[..len].copy_from_slice(&nal);
        base128::put(u64::from(unit_crc), &mut bytes[fields + UNIT_CRC..fields + OWN_CRC]);
        let mut stamp = Self { bytes, len, fields };
        stamp.patch(0, 0);
        stamp
    }

    /// Sets the counter and the time of sending (`CLOCK_MONOTONIC`, nanoseconds). The length never changes.
    pub fn patch(&mut self, counter: u64, send_mono_ns: u64) {
        let fields = &mut self.bytes[self.fields..self.fields + FIELDS_LEN];
        base128::put(counter, &mut fields[..SEND_TIME]);
        base128::put(send_mono_ns, &mut fields[SEND_TIME..UNIT_CRC]);
        let own_crc = crc32fast::hash(&fields[..OWN_CRC]);
        base128::put(u64::from(own_crc), &mut fields[OWN_CRC..]);
    }

    /// The NAL unit, without a start code.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What an access unit says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the unit in its play session, from 0.
    pub counter: u64,
    /// When the sender handed the unit to its kernel: `CLOCK_MONOTONIC`, nanoseconds.
    pub send_mono_ns: u64,
    /// Whether the other NAL units are byte for byte those that were sent.
    pub crc_ok: bool,
}

/// Finds the stamp of an access unit in Annex B form.
///
/// `None` when the unit has no stamp, or none whose own checksum holds. Only the first stamp counts: a second one is
/// part of what the checksum covers, so two units that were glued together show `crc_ok == false`.
#[must_use]
pub fn find(annex_b_unit: &[u8], codec: Codec) -> Option<Stamp> {
    let mut found = None;
    let mut crc = crc32fast::Hasher::new();
    for nal in annexb::nals(annex_b_unit) {
        match parse(nal, codec) {
            Some(fields) if found.is_none() => found = Some(fields),
            _ => crc.update(nal),
        }
    }
    let Fields { counter, send_mono_ns, unit_crc } = found?;
    Some(Stamp { counter, send_mono_ns, crc_ok: unit_crc == crc.finalize() })
}

/// CRC-32 over the bytes of `nals` (no start codes, no stamp), in order: what [`StampNal::new`] wants.
pub fn unit_crc<'a>(nals: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    nals.into_iter().for_each(|nal| crc.update(nal));
    crc.finalize()
}

/// When the unit was sent whose stamp stands first in `bytes`, whatever surrounds it (packets, start codes, parts of other
/// units): for who receives and does not put units together. `CLOCK_MONOTONIC`, nanoseconds.
///
/// `None` when there is no stamp, or only a part of it, or its own checksum does not hold.
#[must_use]
pub fn sent_at(bytes: &[u8]) -> Option<u64> {
    let fields = memchr::memmem::find(bytes, UUID)? + UUID.len();
    let fields = bytes.get(fields..)?.first_chunk()?;
    Some(Fields::checked(fields)?.send_mono_ns)
}

struct Fields {
    counter: u64,
    send_mono_ns: u64,
    unit_crc: u32,
}

impl Fields {
    /// `None` when their own checksum does not hold.
    fn checked(fields: &[u8; FIELDS_LEN]) -> Option<Self> {
        let own_crc = base128::take(&fields[OWN_CRC..])?;
        if own_crc != u64::from(crc32fast::hash(&fields[..OWN_CRC])) {
            return None;
        }
        Some(Self {
            counter: base128::take(&fields[..SEND_TIME])?,
            send_mono_ns: base128::take(&fields[SEND_TIME..UNIT_CRC])?,
            unit_crc: u32::try_from(base128::take(&fields[UNIT_CRC..OWN_CRC])?).ok()?,
        })
    }
}

fn parse(nal: &[u8], codec: Codec) -> Option<Fields> {
    Fields::checked(nal::user_data(nal, codec, UUID)?.try_into().ok()?)
}

/// Not a registered UUID: sixteen readable bytes, none of them zero.
const UUID: &[u8; UUID_LEN] = b"vms-media/stamp1";

// Offsets of the fields behind the UUID; the counter stands first.
const SEND_TIME: usize = U64_LEN;
const UNIT_CRC: usize = SEND_TIME + U64_LEN;
const OWN_CRC: usize = UNIT_CRC + U32_LEN;
const FIELDS_LEN: usize = OWN_CRC + U32_LEN;
const PAYLOAD_LEN: usize = UUID_LEN + FIELDS_LEN;
/// [`PAYLOAD_LEN`] as it stands in the SEI message.
const PAYLOAD_SIZE: u8 = 46;
const _: () = assert!(PAYLOAD_SIZE as usize == PAYLOAD_LEN, "one byte of size says it all");

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect()
    }

    fn stamped(codec: Codec) -> (StampNal, [&'static [u8]; 2]) {
        let others: [&[u8]; 2] = [&[0x67, 1, 2, 3], &[0x65, 0, 0, 3, 0, 9]];
        let mut stamp = StampNal::new(codec, unit_crc(others));
        stamp.patch(7, 1_234_567_890_123);
        (stamp, others)
    }

    #[test]
    fn found_where_it_was_put() {
        for codec in [Codec::H264, Codec::H265] {
            let (stamp, [first, second]) = stamped(codec);
            let expected = Stamp { counter: 7, send_mono_ns: 1_234_567_890_123, crc_ok: true };
            assert_eq!(find(&unit(&[first, stamp.bytes(), second]), codec), Some(expected));
        }
    }

    #[test]
    fn time_of_sending_is_found_in_whatever_surrounds_it() {
        let (stamp, _) = stamped(Codec::H264);
        let packets = [b"$\0\0\x41another packet".as_slice(), stamp.bytes(), b"$\0\0\x05rest"].concat();
        assert_eq!(sent_at(&packets), Some(1_234_567_890_123));
        assert_eq!(sent_at(b"no stamp"), None);
        let cut = packets.len() - b"\x80$\0\0\x05rest".len() - 1;
        assert_eq!(sent_at(&packets[..cut]), None, "a part of it");
        assert_eq!(sent_at(&packets[..=cut]), Some(1_234_567_890_123));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let (stamp, [first, second]) = stamped(Codec::H264);
        let good = unit(&[first, stamp.bytes(), second]);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            // The first byte is the `zero_byte` that may stand before any start code: it carries nothing.
            let seen = find(&bad, Codec::H264).is_some_and(|stamp| stamp.crc_ok);
            assert_eq!(seen, at == 0, "byte {at}");
        }
    }

    #[test]
    fn lost_swapped_and_glued_units_are_noticed() {
        let (stamp, [first, second]) = stamped(Codec::H265);
        let stamp = stamp.bytes();
        for nals in
            [&[first, stamp][..], &[second, stamp, first], &[first, stamp, second, first, stamp, second]]
        {
            assert_eq!(find(&unit(nals), Codec::H265).map(|stamp| stamp.crc_ok), Some(false));
        }
        assert_eq!(find(&unit(&[first, second]), Codec::H265), None);
    }

    #[test]
    fn never_needs_emulation_prevention() {
        for value in [0, 1, u64::from(u32::MAX), u64::MAX] {
            let mut stamp = StampNal::new(Codec::H265, u32::MAX);
            stamp.patch(value, value);
            assert_eq!(stamp.bytes().len(), NAL_LEN_MAX);
            assert!(!stamp.bytes().contains(&0));
        }
    }

    #[test]
    fn the_wrong_codec_finds_nothing() {
        let (stamp, [first, second]) = stamped(Codec::H264);
        assert_eq!(find(&unit(&[first, stamp.bytes(), second]), Codec::H265), None);
    }
}
