//! EBML elements (RFC 8794) as bytes, and the ids that a recording uses (RFC 9559).

/// An element's id, its length marker included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(pub(super) u32);

pub(super) const EBML: Id = Id(0x1A45_DFA3);
pub(super) const EBML_VERSION: Id = Id(0x4286);
pub(super) const EBML_READ_VERSION: Id = Id(0x42F7);
pub(super) const EBML_MAX_ID_LENGTH: Id = Id(0x42F2);
pub(super) const EBML_MAX_SIZE_LENGTH: Id = Id(0x42F3);
pub(super) const DOC_TYPE: Id = Id(0x4282);
pub(super) const DOC_TYPE_VERSION: Id = Id(0x4287);
pub(super) const DOC_TYPE_READ_VERSION: Id = Id(0x4285);
pub(super) const VOID: Id = Id(0xEC);

pub(super) const SEGMENT: Id = Id(0x1853_8067);
pub(super) const SEEK_HEAD: Id = Id(0x114D_9B74);
pub(super) const SEEK: Id = Id(0x4DBB);
pub(super) const SEEK_ID: Id = Id(0x53AB);
pub(super) const SEEK_POSITION: Id = Id(0x53AC);

pub(super) const INFO: Id = Id(0x1549_A966);
pub(super) const SEGMENT_UUID: Id = Id(0x73A4);
pub(super) const TIMESTAMP_SCALE: Id = Id(0x2A_D7B1);
pub(super) const DURATION: Id = Id(0x4489);
pub(super) const DATE_UTC: Id = Id(0x4461);
pub(super) const TITLE: Id = Id(0x7BA9);
pub(super) const MUXING_APP: Id = Id(0x4D80);
pub(super) const WRITING_APP: Id = Id(0x5741);

pub(super) const TRACKS: Id = Id(0x1654_AE6B);
pub(super) const TRACK_ENTRY: Id = Id(0xAE);
pub(super) const TRACK_NUMBER: Id = Id(0xD7);
pub(super) const TRACK_UID: Id = Id(0x73C5);
pub(super) const TRACK_TYPE: Id = Id(0x83);
pub(super) const FLAG_LACING: Id = Id(0x9C);
pub(super) const LANGUAGE: Id = Id(0x22_B59C);
pub(super) const CODEC_ID: Id = Id(0x86);
pub(super) const CODEC_PRIVATE: Id = Id(0x63A2);
pub(super) const VIDEO: Id = Id(0xE0);
pub(super) const PIXEL_WIDTH: Id = Id(0xB0);
pub(super) const PIXEL_HEIGHT: Id = Id(0xBA);

pub(super) const TAGS: Id = Id(0x1254_C367);
pub(super) const TAG: Id = Id(0x7373);
pub(super) const TARGETS: Id = Id(0x63C0);
pub(super) const SIMPLE_TAG: Id = Id(0x67C8);
pub(super) const TAG_NAME: Id = Id(0x45A3);
pub(super) const TAG_STRING: Id = Id(0x4487);

pub(super) const CUES: Id = Id(0x1C53_BB6B);
pub(super) const CUE_POINT: Id = Id(0xBB);
pub(super) const CUE_TIME: Id = Id(0xB3);
pub(super) const CUE_TRACK_POSITIONS: Id = Id(0xB7);
pub(super) const CUE_TRACK: Id = Id(0xF7);
pub(super) const CUE_CLUSTER_POSITION: Id = Id(0xF1);

pub(super) const CLUSTER: Id = Id(0x1F43_B675);
pub(super) const TIMESTAMP: Id = Id(0xE7);
pub(super) const SIMPLE_BLOCK: Id = Id(0xA3);

/// A size of eight bytes that says "unknown" (RFC 8794 §6.2).
pub(super) const SIZE_UNKNOWN: [u8; 8] = [0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];

/// Most that a size of eight bytes can say.
const SIZE_MAX: u64 = (1 << 56) - 2;

impl Id {
    /// Bytes of the id.
    pub(super) const fn len(self) -> usize {
        4 - self.0.leading_zeros() as usize / 8
    }

    /// Appends the id.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        let bytes = self.0.to_be_bytes();
        out.extend_from_slice(bytes.get(4 - self.len()..).unwrap_or_default());
    }
}

/// A size in the fewest bytes, which come first; how many they are.
pub(super) const fn size(value: u64) -> ([u8; 8], usize) {
    let mut len = 1;
    // All ones would say "unknown".
    while len < 8 && value >= (1 << (7 * len)) - 1 {
        len += 1;
    }
    let marked = value | 1 << (7 * len);
    ((marked << (64 - 8 * len)).to_be_bytes(), len)
}

/// A size in eight bytes, to be written over [`SIZE_UNKNOWN`].
pub(super) fn size_of_eight(value: u64) -> [u8; 8] {
    (value.min(SIZE_MAX) | 1 << 56).to_be_bytes()
}

/// Appends an element with these bytes.
pub(super) fn binary(out: &mut Vec<u8>, id: Id, payload: &[u8]) {
    id.put(out);
    let (bytes, len) = size(payload.len() as u64);
    out.extend_from_slice(bytes.get(..len).unwrap_or_default());
    out.extend_from_slice(payload);
}

/// Appends an element with a text.
pub(super) fn text(out: &mut Vec<u8>, id: Id, value: &str) {
    binary(out, id, value.as_bytes());
}

/// Appends an element with a number in the fewest bytes.
pub(super) fn unsigned(out: &mut Vec<u8>, id: Id, value: u64) {
    let bytes = value.to_be_bytes();
    let skip = (value.leading_zeros() as usize / 8).min(7);
    binary(out, id, bytes.get(skip..).unwrap_or_default());
}

/// Appends an element whose content `fill` writes.
pub(super) fn master(out: &mut Vec<u8>, id: Id, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    fill(&mut content);
    binary(out, id, &content);
}

/// Appends a Void element of `len` bytes in all, zeros inside; `len` must be at least [`VOID_LEN_MIN`].
pub(super) fn void(out: &mut Vec<u8>, len: usize) {
    let end = out.len() + len;
    void_head(out, len);
    out.resize(end, 0);
}

/// Appends the head of a Void element of `len` bytes in all.
pub(super) fn void_head(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len >= VOID_LEN_MIN);
    VOID.put(out);
    match u8::try_from(len - 2) {
        Ok(inside @ 0..=126) => out.push(0x80 | inside),
        _ => out.extend_from_slice(&size_of_eight(len as u64 - 9)),
    }
}

/// The shortest Void: id and size.
pub(super) const VOID_LEN_MIN: usize = 2;

/// An element's head, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: Id,
    /// Bytes of content; `None` when unknown.
    pub(super) size: Option<u64>,
    /// Bytes of id and size.
    pub(super) len: usize,
}

/// Reads an element's head. `None` when it is none, or not whole.
pub(super) fn head(bytes: &[u8]) -> Option<Head> {
    let id_len = bytes.first()?.leading_zeros() as usize + 1;
    if id_len > 4 {
        return None;
    }
    let id = bytes.get(..id_len)?.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    let rest = bytes.get(id_len..)?;
    let size_len = rest.first()?.leading_zeros() as usize + 1;
    if size_len > 8 {
        return None;
    }
    let marked = rest.get(..size_len)?.iter().fold(0, |size, byte| size << 8 | u64::from(*byte));
    let ones = (1_u64 << (7 * size_len)) - 1;
    let size = marked & ones;
    Some(Head { id: Id(id), size: (size != ones).then_some(size), len: id_len + size_len })
}

/// The elements that stand one behind the other in `bytes`, up to the first that is not whole: ids and contents.
pub(super) fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (Id, &[u8])> {
    std::iter::from_fn(move || {
        let head = head(bytes)?;
        let (content, rest) = bytes.get(head.len..)?.split_at_checked(usize::try_from(head.size?).ok()?)?;
        bytes = rest;
        Some((head.id, content))
    })
}

/// The content of the first element of this id.
pub(super) fn find(bytes: &[u8], id: Id) -> Option<&[u8]> {
    elements(bytes).find(|(found, _)| *found == id).map(|(_, content)| content)
}

/// A number of at most eight bytes.
pub(super) fn number(content: &[u8]) -> Option<u64> {
    (content.len() <= 8).then(|| content.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_the_fewest_bytes() {
        let of = |value| {
            let (bytes, len) = size(value);
            bytes[..len].to_vec()
        };
        assert_eq!(of(0), [0x80]);
        assert_eq!(of(126), [0xFE]);
        assert_eq!(of(127), [0x40, 0x7F], "0xFF would say unknown");
        assert_eq!(of(16_382), [0x7F, 0xFE]);
        assert_eq!(of(16_383), [0x20, 0x3F, 0xFF]);
        assert_eq!(of(SIZE_MAX), [0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE]);
        assert_eq!(size_of_eight(5), [0x01, 0, 0, 0, 0, 0, 0, 5]);
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        for len in [2, 3, 127, 128, 129, 130, 5000] {
            let mut out = Vec::new();
            void(&mut out, len);
            assert_eq!(out.len(), len);
            let read = head(&out).unwrap();
            assert_eq!((read.id, read.len as u64 + read.size.unwrap()), (VOID, len as u64), "{len}");
        }
        for id in [EBML, SEGMENT, CODEC_PRIVATE, TIMESTAMP_SCALE, SIMPLE_BLOCK] {
            for len in [0, 1, 126, 127, 16_382, 16_383] {
                let mut out = Vec::new();
                binary(&mut out, id, &vec![7; len]);
                assert_eq!(
                    head(&out).map(|h| (h.id, h.size, h.len)),
                    Some((id, Some(len as u64), out.len() - len))
                );
            }
        }
        let mut unknown = Vec::new();
        CLUSTER.put(&mut unknown);
        unknown.extend(SIZE_UNKNOWN);
        assert_eq!(head(&unknown), Some(Head { id: CLUSTER, size: None, len: 12 }));
    }

    #[test]
    fn what_is_no_head_is_none() {
        for bytes in [&[][..], &[0], &[0, 0, 0, 0, 1], &[0xEC], &[0xEC, 0], &[0x1F, 0x43], &[0xA3, 0x40]] {
            assert_eq!(head(bytes), None, "{bytes:x?}");
        }
    }
}
