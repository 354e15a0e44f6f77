//! The memory that is written to a disk from: blocks, aligned as O_DIRECT wants it, shared by all files of a storage.

use std::io;

use memmap2::MmapMut;

/// Bytes of a block.
pub const BLOCK_LEN: usize = 256 * 1024;

/// A block that its holder fills, or that is being written: whoever has it, nobody else can touch it.
#[derive(Debug)]
pub struct Block {
    index: u16,
    memory: MmapMut,
}

impl Block {
    /// Which one of the pool's, from 0.
    pub const fn index(&self) -> u16 {
        self.index
    }

    /// Its [`BLOCK_LEN`] bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.memory
    }

    /// The same, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    /// Copies as much as there is room for behind `at`; how much that was.
    pub(super) fn fill(&mut self, at: usize, bytes: &[u8]) -> usize {
        let place = self.memory.get_mut(at..).unwrap_or_default();
        let len = place.len().min(bytes.len());
        if let (Some(place), Some(bytes)) = (place.get_mut(..len), bytes.get(..len)) {
            place.copy_from_slice(bytes);
        }
        len
    }
}

/// The blocks that nobody has.
#[derive(Debug)]
pub struct Blocks {
    /// The one that was used last comes first: it is in the caches.
    free: Vec<Block>,
}

impl Blocks {
    /// So many blocks, whose memory is taken when they are first written to.
    ///
    /// # Errors
    /// When the kernel refuses a mapping.
    pub fn new(count: u16) -> io::Result<Self> {
        let block = |index| Ok(Block { index, memory: MmapMut::map_anon(BLOCK_LEN)? });
        Ok(Self { free: (0..count).rev().map(block).collect::<io::Result<_>>()? })
    }

    /// A block.
    pub fn take(&mut self) -> Option<Block> {
        self.free.pop()
    }

    /// Gives a block back.
    pub fn give(&mut self, block: Block) {
        self.free.push(block);
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.free.len()
    }

    /// Those that are here.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.free.iter()
    }
}
