//! The recorder: streams from the ring into Matroska files, without touching a pixel and without losing a unit.
//!
//! ```text
//!  ring ─▶ recorder (the loop) ─▶ recording ─▶ mkv ─▶ volume ─▶ disk: io_uring, O_DIRECT, syncs
//!                                    │ cut                          │
//!                                    └──── notes ─▶ storage ◀───────┘ finished ─▶ bookkeeper ─▶ catalogue
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`recorder`] | the loop: one thread for all streams |
//! | [`recording`] | one stream: its units into files, and what the catalogue has to know of them |
//! | [`cut`] | where one file ends and the next begins |
//! | [`mkv`] | files: units in, bytes and seek points out; and the way back after a crash |
//! | [`volume`] | one storage: which bytes are to be written where, and what is on the disk |
//! | [`disk`] | carrying out what a volume asks for: io_uring, O_DIRECT, syncs |
//! | [`storage`] | a directory: volume, disk and catalogue together |
//! | [`recover`] | what a crash has left, put right |
//! | [`catalogue`] | what is recorded, in SQLite |
//! | [`export`] | a part of what was recorded as one file |
//! | [`retention`] | which files go |
//! | `bookkeeper` | the thread that writes it, and deletes |
//! | [`utc`] | times in names |
//!
//! Pure, with time and bytes as arguments: `recording`, `cut`, `mkv`, `volume`, `export`, `retention`.

mod bookkeeper;
pub mod catalogue;
pub mod cut;
pub mod disk;
pub mod export;
pub mod mkv;
pub mod recorder;
pub mod recording;
pub mod recover;
pub mod retention;
pub mod storage;
pub mod utc;
pub mod volume;
