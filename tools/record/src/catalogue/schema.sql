-- The recorder's catalogue, version 1. Times are ns since 1970 UTC unless the name says otherwise.
-- One row a file that is finished: written after the file and its directory are on the disk. A file without a row is one that was not
-- finished, or whose row was lost with the power: it is read again and gets one. So the catalogue can be made anew from the files.
CREATE TABLE segment (
  id INTEGER PRIMARY KEY,
  stream TEXT NOT NULL,
  -- Within the storage.
  path TEXT NOT NULL UNIQUE,
  codec TEXT NOT NULL,
  width INTEGER NOT NULL,
  height INTEGER NOT NULL,
  -- Of the stream (64 bits, as SQLite's signed integer) and of its media clock.
  epoch INTEGER NOT NULL,
  timeline INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  -- Wall clock of the first and the last unit; media time of the first one, and how long the file plays.
  start_utc INTEGER NOT NULL,
  end_utc INTEGER NOT NULL,
  start_pts INTEGER NOT NULL,
  duration_ns INTEGER NOT NULL,
  -- Where the wall clock comes from: 1 receive, 2 the camera's sender reports, 3 suspect ones.
  clock_source INTEGER NOT NULL,
  units INTEGER NOT NULL,
  damaged INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  -- Why the file begins where it does; 'recovered' when that is not known.
  why TEXT NOT NULL,
  -- Kept whatever retention says.
  locked INTEGER NOT NULL DEFAULT 0,
  -- Seek points: pairs of u64, little-endian: timestamp in 0.1 ms, offset of the cluster.
  seek_points BLOB NOT NULL
) STRICT;
CREATE INDEX segment_by_time ON segment (stream, start_utc);

-- A time of which there is nothing, and why: missed, camera, restart, undecodable.
CREATE TABLE gap (
  id INTEGER PRIMARY KEY,
  stream TEXT NOT NULL,
  from_utc INTEGER NOT NULL,
  to_utc INTEGER NOT NULL,
  reason TEXT NOT NULL,
  -- Units; 0 when that is not known.
  lost INTEGER NOT NULL
) STRICT;
CREATE INDEX gap_by_time ON gap (stream, from_utc);
PRAGMA user_version = 1;
