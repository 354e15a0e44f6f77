use std::collections::BTreeMap;

use proptest::prelude::*;
use ring_abi::layout::Codec;

use super::*;
use crate::mkv::{Finished, Frame, Header, Muxer, Payload, ScanError, VideoTrack, scan};

const SETS: &[u8] =
    &[0, 0, 0, 1, 0x67, 0x42, 0x00, 0x0a, 0xf8, 0x41, 0xa2, 0, 0, 0, 1, 0x68, 0xce, 0x38, 0x80];
const SECTOR: usize = 512;

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A disk with a volatile cache: what is written may be lost until a sync that began behind it is complete.
#[derive(Default)]
struct Disk {
    files: BTreeMap<FileId, OnDisk>,
    /// Asked for and not answered.
    open_ops: Vec<Op>,
    /// What the sync that is under way covers: so many of a file's writes.
    covered: BTreeMap<FileId, usize>,
}

#[derive(Default)]
struct OnDisk {
    durable: Vec<u8>,
    /// In the order in which they were answered.
    volatile: Vec<(usize, Vec<u8>)>,
}

impl OnDisk {
    fn apply(&mut self, at: usize, bytes: &[u8]) {
        if self.durable.len() < at + bytes.len() {
            self.durable.resize(at + bytes.len(), 0);
        }
        self.durable[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Disk {
    fn take_ops(&mut self, volume: &mut Volume) {
        while let Some(op) = volume.poll_op() {
            match op {
                Op::Sync => {
                    self.covered = self.files.iter().map(|(id, file)| (*id, file.volatile.len())).collect();
                    self.open_ops.push(Op::Sync);
                }
                Op::Close { .. } => {}
                Op::Create { .. } | Op::Write { .. } => self.open_ops.push(op),
            }
        }
    }

    /// Carries out one operation that was asked for, whichever.
    fn answer(&mut self, volume: &mut Volume, dice: &mut Dice, error_one_in: u64) {
        if self.open_ops.is_empty() {
            return;
        }
        let at = usize::try_from(dice.below(self.open_ops.len() as u64)).unwrap();
        let fails = error_one_in > 0 && dice.one_in(error_one_in);
        let result = || if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        match self.open_ops.swap_remove(at) {
            Op::Create { file, .. } => {
                self.files.insert(file, OnDisk::default());
                volume.on_created(file, result());
            }
            Op::Write { file, at, block, len } => {
                let bytes = block.bytes()[..len].to_vec();
                self.files.get_mut(&file).unwrap().volatile.push((usize::try_from(at).unwrap(), bytes));
                volume.on_written(file, block, result());
            }
            Op::Sync => {
                if !fails {
                    for (file, count) in std::mem::take(&mut self.covered) {
                        let file = self.files.get_mut(&file).unwrap();
                        let synced: Vec<_> = file.volatile.drain(..count).collect();
                        synced.iter().for_each(|(at, bytes)| file.apply(*at, bytes));
                    }
                }
                volume.on_synced(result());
            }
            Op::Close { .. } => unreachable!("not kept"),
        }
    }

    /// The power goes: of what was not synced each sector is there or not, whatever came first.
    fn crash(mut self, dice: &mut Dice) -> BTreeMap<FileId, Vec<u8>> {
        for op in &self.open_ops {
            if let Op::Write { file, at, block, len } = op {
                let bytes = block.bytes()[..*len].to_vec();
                self.files.get_mut(file).unwrap().volatile.push((usize::try_from(*at).unwrap(), bytes));
            }
        }
        for file in self.files.values_mut() {
            for (at, bytes) in std::mem::take(&mut file.volatile) {
                let kept = dice.below(4);
                for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                    if kept == 0 || kept > 1 && dice.one_in(2) {
                        file.apply(at + n * SECTOR, sector);
                    }
                }
            }
        }
        self.files.into_iter().map(|(id, file)| (id, file.durable)).collect()
    }
}

/// One stream that is written to the volume, and what is known of its files.
struct Writer {
    open: Option<(FileId, Muxer)>,
    seq: u64,
    /// Per file: its header at the end, and how many units were appended up to each flush.
    files: BTreeMap<FileId, Expected>,
}

#[derive(Default)]
struct Expected {
    /// Offset behind each flush, and the units in front of it.
    flushes: Vec<(u64, u64)>,
    /// The last unit that was appended to it; 0 before the first.
    last: u64,
    finished: Option<Finished>,
    durable: u64,
    is_finished: bool,
    error: Option<io::Error>,
}

impl Writer {
    const fn new() -> Self {
        Self { open: None, seq: 0, files: BTreeMap::new() }
    }

    fn step(&mut self, volume: &mut Volume, dice: &mut Dice) {
        if volume.room() < 4 * BLOCK_LEN {
            return;
        }
        let Some((file, muxer)) = &mut self.open else {
            let track = VideoTrack { codec: Codec::H264, parameter_sets: SETS, width: 320, height: 180 };
            let header = Header::new(track, 5, "yard", 0).unwrap().cues_max(300);
            let file = volume.create(PathBuf::from("a.mkv"));
            let muxer = Muxer::begin(&header, 9, 0, &mut volume.appender(file));
            self.files.insert(file, Expected::default());
            self.open = Some((file, muxer));
            return;
        };
        let expected = self.files.get_mut(file).unwrap();
        match dice.below(12) {
            0..=7 => {
                self.seq += 1;
                expected.last = self.seq;
                let len = if dice.one_in(8) { 300_000 } else { dice.below(20_000) + 1 };
                let payload = vec![self.seq.to_le_bytes()[0] | 1; 4 + usize::try_from(len).unwrap()];
                let nal_ends = [u32::try_from(payload.len()).unwrap()];
                let pts_ns = i64::try_from(self.seq).unwrap() * 40_000_000;
                let is_key = dice.one_in(5);
                let frame = Frame {
                    payload: Payload::AnnexB { bytes: &payload, nal_ends: &nal_ends },
                    pts_ns,
                    is_key,
                    is_disposable: false,
                    seq: self.seq,
                };
                muxer.unit(&frame, &mut volume.appender(*file));
            }
            8..=10 => {
                muxer.checkpoint(&mut volume.appender(*file));
                volume.flush(*file);
                expected.flushes.push((muxer.position(), expected.last));
            }
            _ => {
                let (file, muxer) = self.open.take().unwrap();
                let finished = muxer.finish(&mut volume.appender(file));
                volume.flush(file);
                expected.flushes.push((finished.len, expected.last));
                volume.finish(file, finished.header.clone());
                expected.finished = Some(finished);
            }
        }
    }

    fn take_events(&mut self, volume: &mut Volume) {
        while let Some(event) = volume.poll_event() {
            match event {
                Event::Finished(file) => self.files.get_mut(&file).unwrap().is_finished = true,
                Event::Durable(file, offset) => {
                    let expected = self.files.get_mut(&file).unwrap();
                    assert!(offset >= expected.durable);
                    expected.durable = offset;
                }
                Event::Failed { file, error, .. } => {
                    let before = self.files.get_mut(&file).unwrap().error.replace(error);
                    assert!(before.is_none(), "said once");
                    if self.open.as_ref().is_some_and(|(open, _)| *open == file) {
                        self.open = None;
                    }
                }
            }
        }
    }

    /// What must be true of what the disk holds, after whatever.
    fn check(&self, disk: &BTreeMap<FileId, Vec<u8>>) {
        for (id, expected) in &self.files {
            let empty = Vec::new();
            let bytes = disk.get(id).unwrap_or(&empty);
            let recovered = match scan(&mut &**bytes) {
                Ok(recovered) => recovered,
                Err(ScanError::Header) => {
                    assert_eq!(expected.durable, 0, "a file that was durable has lost its header");
                    assert!(!expected.is_finished);
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let flushed = |offset: u64| expected.flushes.iter().rev().find(|(end, _)| *end <= offset);
            let durable_units = flushed(expected.durable).map_or(0, |(_, seq)| *seq);
            let seq = recovered.last.map_or(0, |(epoch, seq)| {
                assert_eq!(epoch, 9);
                seq
            });
            assert!(seq >= durable_units, "unit {durable_units} was durable, and {seq} is the last one left");
            assert!(expected.flushes.iter().any(|(_, flushed)| *flushed == seq) || seq == 0);
            if expected.is_finished {
                let finished = expected.finished.as_ref().unwrap();
                assert_eq!(recovered.finished, *finished);
                assert!(
                    bytes.starts_with(&finished.header),
                    "a file that is said to be finished has its last header"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// After a power cut at any moment each file can be read up to what was said to be durable, and finished files are whole.
    #[test]
    fn what_is_said_to_be_durable_survives_a_power_cut(seed in 1_u64.., steps in 1_usize..400, errors in prop::option::of(10_u64..200)) {
        let mut dice = Dice(seed);
        let mut volume = Volume::new(Blocks::new(24).unwrap());
        let (mut disk, mut writer) = (Disk::default(), Writer::new());
        for _ in 0..steps {
            match dice.below(4) {
                0 | 1 => writer.step(&mut volume, &mut dice),
                2 => disk.answer(&mut volume, &mut dice, errors.unwrap_or(0)),
                _ => volume.tick(),
            }
            disk.take_ops(&mut volume);
            writer.take_events(&mut volume);
        }
        writer.check(&disk.crash(&mut dice));
    }

    /// Whatever fails, every block comes back, and each file is said to be finished or failed once the disk has answered.
    #[test]
    fn nothing_is_held_for_ever(seed in 1_u64.., steps in 1_usize..300, errors in prop::option::of(10_u64..200)) {
        let mut dice = Dice(seed);
        let mut volume = Volume::new(Blocks::new(24).unwrap());
        let (mut disk, mut writer) = (Disk::default(), Writer::new());
        for _ in 0..steps {
            match dice.below(4) {
                0 | 1 => writer.step(&mut volume, &mut dice),
                2 => disk.answer(&mut volume, &mut dice, errors.unwrap_or(0)),
                _ => volume.tick(),
            }
            disk.take_ops(&mut volume);
            writer.take_events(&mut volume);
        }
        if let Some((file, muxer)) = writer.open.take() {
            let finished = muxer.finish(&mut volume.appender(file));
            volume.flush(file);
            volume.finish(file, finished.header);
        }
        for _ in 0..1000 {
            disk.take_ops(&mut volume);
            disk.answer(&mut volume, &mut dice, 0);
            writer.take_events(&mut volume);
            if disk.open_ops.is_empty() {
                volume.tick();
            }
        }
        prop_assert_eq!(volume.blocks().count(), 24);
        prop_assert!(!volume.is_dirty());
        for (id, expected) in &writer.files {
            prop_assert!(expected.is_finished != expected.error.is_some(), "{:?}", id);
        }
    }
}
