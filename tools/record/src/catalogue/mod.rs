//! What is recorded, in SQLite: one database beside the files of each storage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::mkv::SeekPoint;
use crate::recording::{Gap, Segment, Stopped};
use crate::retention::Kept;

/// The catalogue of a storage.
#[derive(Debug)]
pub struct Catalogue {
    database: Connection,
}

/// Why the catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// SQLite says so.
    #[error("the catalogue: {0}")]
    Database(#[from] rusqlite::Error),
    /// A later version made it.
    #[error("the catalogue was made by a newer version (its format is {0}, this one knows {VERSION})")]
    Newer(i64),
}

/// A file, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its row.
    pub id: i64,
    /// Kept whatever retention says.
    pub locked: bool,
    /// The file.
    pub segment: Segment,
}

impl Catalogue {
    /// Opens the catalogue of the storage at `dir`, and makes it if there is none.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn open(dir: &Path) -> Result<Self, CatalogueError> {
        Self::with(Connection::open(dir.join(FILE_NAME))?)
    }

    /// One that is nowhere kept.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn in_memory() -> Result<Self, CatalogueError> {
        Self::with(Connection::open_in_memory()?)
    }

    fn with(database: Connection) -> Result<Self, CatalogueError> {
        database.busy_timeout(BUSY_TIMEOUT)?;
        // Readers do not wait for us. A row that is lost with the power is made again from its file, so no commit waits for the disk.
        database.pragma_update(None, "journal_mode", "wal")?;
        database.pragma_update(None, "synchronous", "normal")?;
        match database.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => database.execute_batch(&format!("BEGIN;{SCHEMA};COMMIT;"))?,
            VERSION => {}
            newer => return Err(CatalogueError::Newer(newer)),
        }
        Ok(Self { database })
    }

    /// Adds a file that is on the disk.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub fn add_segment(&self, segment: &Segment) -> Result<(), CatalogueError> {
        let mut statement = self.database.prepare_cached(
            "INSERT OR REPLACE INTO segment (stream, path, codec, width, height, epoch, timeline, first_seq, last_seq, start_utc, \
             end_utc, start_pts, duration_ns, clock_source, units, damaged, bytes, why, seek_points) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
        )?;
        statement.execute(params![
            segment.stream,
            segment.path.to_string_lossy(),
            segment.codec,
            segment.width,
            segment.height,
            segment.epoch.cast_signed(),
            segment.timeline,
            segment.first_seq.cast_signed(),
            segment.last_seq.cast_signed(),
            segment.start_utc_ns,
            segment.end_utc_ns,
            segment.start_pts_ns,
            segment.duration_ns,
            segment.clock_source,
            segment.units.cast_signed(),
            segment.damaged.cast_signed(),
            segment.bytes.cast_signed(),
            segment.why,
            seek_points_to_blob(&segment.seek_points),
        ])?;
        Ok(())
    }

    /// Adds a gap.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub fn add_gap(&self, stream: &str, gap: &Gap) -> Result<(), CatalogueError> {
        let mut statement = self.database.prepare_cached(
            "INSERT INTO gap (stream, from_utc, to_utc, reason, lost) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        statement.execute(params![
            stream,
            gap.from_utc_ns,
            gap.to_utc_ns,
            gap.reason.name(),
            gap.lost.cast_signed()
        ])?;
        Ok(())
    }

    /// Whether a file is listed.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub fn knows(&self, path: &Path) -> Result<bool, CatalogueError> {
        let mut statement = self.database.prepare_cached("SELECT 1 FROM segment WHERE path = ?1")?;
        Ok(statement.query_row([path.to_string_lossy()], |_| Ok(())).optional()?.is_some())
    }

    /// The files of a stream (of all when `None`) that hold something between these times, the oldest first.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub fn segments(
        &self,
        stream: Option<&str>,
        from_utc_ns: i64,
        to_utc_ns: i64,
    ) -> Result<Vec<Listed>, CatalogueError> {
        let mut statement = self.database.prepare_cached(
            "SELECT * FROM segment WHERE (?1 IS NULL OR stream = ?1) AND start_utc < ?3 AND max(end_utc, start_utc + duration_ns) > ?2 \
             ORDER BY stream, start_utc, id",
        )?;
        let rows = statement.query_map(params![stream, from_utc_ns, to_utc_ns], listed)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The gaps of a stream (of all when `None`) between these times, the oldest first.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub fn gaps(
        &self,
        stream: Option<&str>,
        from_utc_ns: i64,
        to_utc_ns: i64,
    ) -> Result<Vec<GapRow>, CatalogueError> {
        let mut statement = self.database.prepare_cached(
            "SELECT from_utc, to_utc, reason, lost, stream FROM gap WHERE (?1 IS NULL OR stream = ?1) AND from_utc < ?3 AND to_utc > ?2 \
             ORDER BY stream, from_utc, id",
        )?;
        let rows = statement.query_map(params![stream, from_utc_ns, to_utc_ns], |row| {
            let lost: i64 = row.get(3)?;
            Ok(GapRow {
                stream: row.get(4)?,
                from_utc_ns: row.get(0)?,
                to_utc_ns: row.get(1)?,
                reason: row.get(2)?,
                lost: lost.cast_unsigned(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The last unit of each stream.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub fn last_units(&self) -> Result<BTreeMap<String, Stopped>, CatalogueError> {
        // By the time that they began: a file that was recovered has a later row than those behind it.
        let mut statement = self.database.prepare_cached(
            "SELECT stream, epoch, last_seq, end_utc FROM segment WHERE id IN (SELECT id FROM \
             (SELECT id, row_number() OVER (PARTITION BY stream ORDER BY start_utc DESC, last_seq DESC) AS place FROM segment) \
             WHERE place = 1)",
        )?;
        let rows = statement.query_map([], |row| {
            let (epoch, seq): (i64, i64) = (row.get(1)?, row.get(2)?);
            let (epoch, seq) = (epoch.cast_unsigned(), seq.cast_unsigned());
            Ok((row.get(0)?, Stopped { epoch, seq, utc_ns: row.get(3)? }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Paths and rows of all files.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub fn paths(&self) -> Result<BTreeMap<PathBuf, i64>, CatalogueError> {
        let mut statement = self.database.prepare_cached("SELECT path, id FROM segment")?;
        let rows =
            statement.query_map([], |row| Ok((PathBuf::from(row.get::<_, String>(0)?), row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest file of a stream.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub fn newest(&self, stream: &str) -> Result<Option<Listed>, CatalogueError> {
        let mut statement = self
            .database
            .prepare_cached("SELECT * FROM segment WHERE stream = ?1 ORDER BY id DESC LIMIT 1")?;
        Ok(statement.query_row([stream], listed).optional()?)
    }

    /// All files, the oldest first, for who decides which ones go.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub fn kept(&self) -> Result<Vec<(Kept, PathBuf)>, CatalogueError> {
        let mut statement = self.database.prepare_cached(
            "SELECT id, max(end_utc, start_utc + duration_ns), bytes, locked, path FROM segment ORDER BY start_utc, id",
        )?;
        let rows = statement.query_map([], |row| {
            let bytes: i64 = row.get(2)?;
            let (id, end_utc_ns, locked) = (row.get(0)?, row.get(1)?, row.get(3)?);
            let kept = Kept { id, end_utc_ns, bytes: bytes.cast_unsigned(), locked };
            Ok((kept, PathBuf::from(row.get::<_, String>(4)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets a file.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub fn remove(&self, id: i64) -> Result<(), CatalogueError> {
        self.database.prepare_cached("DELETE FROM segment WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    /// Locks or unlocks files; how many there are.
    ///
    /// # Errors
    /// [`CatalogueError::Database`].
    pub fn set_locked(
        &self,
        stream: &str,
        from_utc_ns: i64,
        to_utc_ns: i64,
        locked: bool,
    ) -> Result<usize, CatalogueError> {
        let mut statement = self.database.prepare_cached(
            "UPDATE segment SET locked = ?4 WHERE stream = ?1 AND start_utc < ?3 AND max(end_utc, start_utc + duration_ns) > ?2",
        )?;
        Ok(statement.execute(params![stream, from_utc_ns, to_utc_ns, locked])?)
    }
}

/// A gap, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapRow {
    /// Of the stream.
    pub stream: String,
    /// The last unit before it, UTC.
    pub from_utc_ns: i64,
    /// The first one behind it.
    pub to_utc_ns: i64,
    /// `missed`, `camera`, `restart`, `undecodable`.
    pub reason: String,
    /// Units; 0 when that is not known.
    pub lost: u64,
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let unsigned = |name: &str| row.get::<_, i64>(name).map(i64::cast_unsigned);
    let path: String = row.get("path")?;
    let blob: Vec<u8> = row.get("seek_points")?;
    Ok(Listed {
        id: row.get("id")?,
        locked: row.get("locked")?,
        segment: Segment {
            stream: row.get("stream")?,
            path: PathBuf::from(path),
            why: row.get("why")?,
            epoch: unsigned("epoch")?,
            timeline: row.get("timeline")?,
            codec: row.get("codec")?,
            width: row.get("width")?,
            height: row.get("height")?,
            start_utc_ns: row.get("start_utc")?,
            end_utc_ns: row.get("end_utc")?,
            start_pts_ns: row.get("start_pts")?,
            duration_ns: row.get("duration_ns")?,
            first_seq: unsigned("first_seq")?,
            last_seq: unsigned("last_seq")?,
            units: unsigned("units")?,
            damaged: unsigned("damaged")?,
            bytes: unsigned("bytes")?,
            clock_source: row.get("clock_source")?,
            seek_points: seek_points_of_blob(&blob),
        },
    })
}

fn seek_points_to_blob(points: &[SeekPoint]) -> Vec<u8> {
    points
        .iter()
        .flat_map(|point| [point.ticks.to_le_bytes(), point.cluster_at.to_le_bytes()].concat())
        .collect()
}

fn seek_points_of_blob(blob: &[u8]) -> Vec<SeekPoint> {
    let (numbers, _) = blob.as_chunks::<8>();
    let (pairs, _) = numbers.as_chunks::<2>();
    let point = |[ticks, at]: &[[u8; 8]; 2]| SeekPoint {
        ticks: u64::from_le_bytes(*ticks),
        cluster_at: u64::from_le_bytes(*at),
    };
    pairs.iter().map(point).collect()
}

/// The database's name beside the files.
pub const FILE_NAME: &str = "catalogue.sqlite";
const SCHEMA: &str = include_str!("schema.sql");
const VERSION: i64 = 1;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::GapReason;

    fn segment(stream: &str, start_s: i64) -> Segment {
        Segment {
            stream: stream.to_owned(),
            path: PathBuf::from(format!("{stream}/{start_s}.mkv")),
            why: "boundary".to_owned(),
            epoch: u64::MAX - 3,
            timeline: 2,
            codec: "h264".to_owned(),
            width: 1920,
            height: 1080,
            start_utc_ns: start_s * 1_000_000_000,
            end_utc_ns: (start_s + 59) * 1_000_000_000,
            start_pts_ns: -5,
            duration_ns: 60_000_000_000,
            first_seq: 1,
            last_seq: 1500,
            units: 1500,
            damaged: 3,
            bytes: 30_000_000,
            clock_source: 2,
            seek_points: vec![
                SeekPoint { ticks: 0, cluster_at: 8192 },
                SeekPoint { ticks: 20_000, cluster_at: 99_999 },
            ],
        }
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let catalogue = Catalogue::in_memory().unwrap();
        for (stream, start_s) in [("b", 0), ("a", 60), ("a", 0), ("a", 120)] {
            catalogue.add_segment(&segment(stream, start_s)).unwrap();
        }
        let s = 1_000_000_000;
        let found = |stream, from, to| -> Vec<Segment> {
            catalogue.segments(stream, from, to).unwrap().into_iter().map(|listed| listed.segment).collect()
        };
        assert_eq!(
            found(None, i64::MIN, i64::MAX),
            [segment("a", 0), segment("a", 60), segment("a", 120), segment("b", 0)]
        );
        assert_eq!(found(Some("a"), 60 * s, 120 * s), [segment("a", 60)], "ends belong to the next");
        assert_eq!(found(Some("a"), 59 * s, 121 * s).len(), 3);
        assert_eq!(found(Some("c"), i64::MIN, i64::MAX), []);
        assert!(
            catalogue.knows(Path::new("a/60.mkv")).unwrap()
                && !catalogue.knows(Path::new("a/61.mkv")).unwrap()
        );
        // Again, after a crash that lost what we thought of it: still one.
        catalogue.add_segment(&segment("a", 60)).unwrap();
        assert_eq!(found(Some("a"), i64::MIN, i64::MAX).len(), 3);
    }

    #[test]
    fn gaps_locks_and_removals() {
        let catalogue = Catalogue::in_memory().unwrap();
        let gap = Gap { from_utc_ns: 10, to_utc_ns: 20, reason: GapReason::Camera, lost: 7 };
        catalogue.add_gap("a", &gap).unwrap();
        let rows = catalogue.gaps(Some("a"), 0, 11).unwrap();
        assert_eq!(
            rows,
            [GapRow {
                stream: "a".to_owned(),
                from_utc_ns: 10,
                to_utc_ns: 20,
                reason: "camera".to_owned(),
                lost: 7
            }]
        );
        assert_eq!(catalogue.gaps(None, 20, 30).unwrap(), []);
        catalogue.add_segment(&segment("a", 0)).unwrap();
        catalogue.add_segment(&segment("a", 60)).unwrap();
        assert_eq!(catalogue.set_locked("a", 0, 1, true).unwrap(), 1);
        let listed = catalogue.segments(Some("a"), 0, i64::MAX).unwrap();
        assert_eq!(listed.iter().map(|listed| listed.locked).collect::<Vec<_>>(), [true, false]);
        catalogue.remove(listed[0].id).unwrap();
        assert_eq!(catalogue.segments(Some("a"), 0, i64::MAX).unwrap().len(), 1);
        assert_eq!(catalogue.newest("a").unwrap().unwrap().segment.start_utc_ns, 60_000_000_000);
        assert_eq!(catalogue.newest("b").unwrap(), None);
    }
}
