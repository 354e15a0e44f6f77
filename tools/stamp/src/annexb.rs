//! Iteration over the NAL units of an Annex B byte stream (ITU-T H.264 and H.265, Annex B).

/// The NAL units of `stream`, without start codes and without trailing zero bytes; empty ones are skipped.
///
/// Bytes before the first start code belong to no NAL unit and are skipped too.
#[must_use]
pub fn nals(stream: &[u8]) -> Nals<'_> {
    let rest = match start_code(stream) {
        Some(at) => stream.get(at + START_CODE_LEN..).unwrap_or_default(),
        None => &[],
    };
    Nals { rest }
}

/// Iterator made by [`nals`].
#[derive(Debug, Clone)]
pub struct Nals<'a> {
    /// Bytes behind the last start code that was passed.
    rest: &'a [u8],
}

impl<'a> Iterator for Nals<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = start_code(self.rest).unwrap_or(self.rest.len());
            let (nal, tail) = self.rest.split_at(end);
            self.rest = tail.get(START_CODE_LEN..).unwrap_or_default();
            let nal = trim_zeros(nal);
            if !nal.is_empty() {
                return Some(nal);
            }
        }
        None
    }
}

/// Position of the first `00 00 01`.
fn start_code(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&[first, second, third]) = bytes.get(at..at + START_CODE_LEN) {
        // A third byte above 1 can be no part of a start code, so three positions fall at once.
        match (first, second, third) {
            (0, 0, 1) => return Some(at),
            (_, _, 2..) => at += 3,
            _ => at += 1,
        }
    }
    None
}

/// A NAL unit never ends with a zero byte; those found there are `trailing_zero_8bits` or the `zero_byte` of the next
/// start code.
fn trim_zeros(nal: &[u8]) -> &[u8] {
    let end = nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    nal.get(..end).unwrap_or_default()
}

const START_CODE_LEN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(stream: &[u8]) -> Vec<Vec<u8>> {
        nals(stream).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn both_start_codes_and_trailing_zeros() {
        let stream = [0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 0, 1, 0x65, 0, 0, 3, 1, 0, 0];
        assert_eq!(collect(&stream), vec![vec![0x67, 1], vec![0x68, 2], vec![0x65, 0, 0, 3, 1]]);
    }

    #[test]
    fn nothing_without_a_start_code() {
        assert!(collect(&[1, 2, 3]).is_empty());
        assert!(collect(&[]).is_empty());
        assert!(collect(&[0, 0, 1]).is_empty());
        assert!(collect(&[0, 0, 1, 0, 0, 1, 0, 0, 0, 1]).is_empty());
    }

    #[test]
    fn start_code_at_every_alignment() {
        for lead in 0..7 {
            let mut stream = vec![9; lead];
            stream.extend([0, 0, 1, 0x41]);
            assert_eq!(collect(&stream), vec![vec![0x41]], "{lead} bytes before it");
        }
    }
}
