//! Bytes cut into portions, as a network would.

/// Where to cut: the same for the same seed.
#[derive(Clone, Debug)]
pub struct Cuts {
    state: u64,
    /// Portions have less than so many bytes.
    below: u64,
}

impl Cuts {
    /// Some seeds cut byte by byte, some seldom.
    pub fn new(seed: u16) -> Self {
        Self { state: seed.into(), below: [2, 3, 9, 40, 300, 3000][usize::from(seed) % 6] }
    }

    /// Portions of `bytes`, in order, now and then an empty one. Much is cut into larger ones: some hundred in all.
    pub fn pieces<'a>(&mut self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'_, 'a> {
        let mut rest = bytes;
        let below = self.below.max(bytes.len() as u64 / 256);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let len = usize::try_from(self.next() % below).unwrap_or(0);
            let piece;
            (piece, rest) = rest.split_at(len.min(rest.len()));
            Some(piece)
        })
    }

    /// Xorshift; the first number differs from seed to seed by the multiplication.
    fn next(&mut self) -> u64 {
        self.state = (self.state + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.state ^= self.state >> 29;
        self.state >> 3
    }
}
