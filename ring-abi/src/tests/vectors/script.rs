//! The text of a vector, line by line, from what the segments hold at each step.

use std::fmt::Write;

/// Names one of the two segments of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Stream,
    Ring,
}

/// The seals that a segment's file has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seals {
    All,
    None,
    /// All but the one of this name.
    AllBut(&'static str),
}

/// Bytes of a line at most.
const RUN_MAX: usize = 32;
/// As many bytes that have not changed do not end a run.
const GAP_MAX: usize = 4;

/// A script that grows.
#[derive(Debug, Default)]
pub(super) struct Script {
    head: String,
    body: String,
    /// What the script has said so far of stream and ring.
    said: [Vec<u8>; 2],
}

impl Script {
    /// A segment's file, before anything is said of its bytes.
    pub(super) fn size(&mut self, segment: Segment, bytes: usize, seals: Seals) {
        let name = segment.name();
        match seals {
            Seals::All => writeln!(self.head, "size {name} {bytes}"),
            Seals::None => writeln!(self.head, "unsealed {name} {bytes}"),
            Seals::AllBut(seal) => writeln!(self.head, "unsealed {name} {bytes} {seal}"),
        }
        .unwrap();
    }

    pub(super) fn comment(&mut self, text: &str) {
        for line in text.lines() {
            writeln!(self.body, "# {line}").unwrap();
        }
    }

    pub(super) fn line(&mut self, line: &str) {
        self.body.push_str(line);
        self.body.push('\n');
    }

    /// Says what differs between `now` and what was said before. What stands behind the file's end is not said.
    pub(super) fn say(&mut self, segment: Segment, now: &[u8]) {
        let said = &mut self.said[segment as usize];
        said.resize(now.len(), 0);
        let mut at = 0;
        while let Some(begin) = first_difference(said, now, at) {
            let mut end = begin + 1;
            let mut last = end;
            while end < now.len() && end - begin < RUN_MAX && end - last < GAP_MAX {
                end += 1;
                if said[end - 1] != now[end - 1] {
                    last = end;
                }
            }
            let hex: String = now[begin..last].iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(self.body, "at {} {begin:x} {hex}", segment.name()).unwrap();
            at = last;
        }
        said.copy_from_slice(now);
    }

    /// The whole text under a title.
    pub(super) fn text(&self, title: &str) -> String {
        format!("# {title}\n{}{}", self.head, self.body)
    }
}

/// Where two texts of equal length first differ, from `at` on; by blocks, because most of a segment stays.
fn first_difference(said: &[u8], now: &[u8], at: usize) -> Option<usize> {
    let blocks = said[at..].chunks(256).zip(now[at..].chunks(256));
    let (n, (said, now)) = blocks.enumerate().find(|(_, (said, now))| said != now)?;
    Some(at + n * 256 + said.iter().zip(now).position(|(said, now)| said != now)?)
}

impl Segment {
    fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Ring => "ring",
        }
    }
}
