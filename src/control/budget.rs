//! How much memory streams may take: what the machine and its cgroups have left when the daemon starts, less a reserve.
//!
//! Without it the kernel would decide, and it does not refuse a page of shared memory: it kills the daemon, and with it
//! all the streams that there are. Read once; what others take later is what the reserve is for.

use std::fs;
use std::path::{Component, Path, PathBuf};

use tracing::{info, warn};

use super::error::ApiError;
use crate::limits::{ARENA_LEN_DEFAULT, MEMORY_RESERVE_DIVISOR, MEMORY_RESERVE_MIN, STREAMS_MAX};
use crate::publish::Publisher;

/// Names of files: a cgroup's limit, what it has taken, its statistics, and what these call pages of files that nobody uses.
struct Names {
    /// Where the groups are mounted.
    root: &'static str,
    limit: &'static str,
    taken: &'static str,
    unused: &'static str,
}

/// Version 2. With both mounted, version 1 has the memory controller, and the files are not there.
const VERSION_2: Names =
    Names { root: "/sys/fs/cgroup", limit: "memory.max", taken: "memory.current", unused: "inactive_file " };

/// Version 1, where "no limit" is a number beyond all memory.
const VERSION_1: Names = Names {
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    taken: "memory.usage_in_bytes",
    unused: "total_inactive_file ",
};

/// Memory for streams, as a daemon that starts now on this machine and in this container would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamMemory {
    /// Bytes that all streams may take.
    pub bytes_max: u64,
    /// Bytes that one takes.
    pub bytes_per_stream: u64,
}

/// Finds out how much memory streams may take.
pub fn stream_memory() -> StreamMemory {
    let Budget { segment_len, bytes_max } = Budget::now();
    StreamMemory { bytes_max, bytes_per_stream: segment_len }
}

/// What all streams together may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Bytes of one stream's segment.
    segment_len: u64,
    /// Bytes of all segments; never more than `STREAMS_MAX` of them take.
    bytes_max: u64,
}

impl Budget {
    /// The budget on this machine, in this container, now.
    pub(crate) fn of_this_machine() -> Self {
        let budget = Self::now();
        let streams = budget.bytes_max.checked_div(budget.segment_len).unwrap_or(0);
        match streams {
            0 => warn!(bytes = budget.bytes_max, "there is no memory for a single stream"),
            _ => info!(streams, bytes = budget.bytes_max, "memory for streams"),
        }
        budget
    }

    fn now() -> Self {
        let left = memory_left(|path| fs::read_to_string(path).ok());
        Self::new(left, Publisher::segment_len(ARENA_LEN_DEFAULT).unwrap_or(0))
    }

    /// The budget where `left` bytes are left (`None`: nothing is known to limit) and a stream takes `segment_len`.
    fn new(left: Option<u64>, segment_len: u64) -> Self {
        let all = segment_len.saturating_mul(STREAMS_MAX as u64);
        let spare = |left: u64| left.saturating_sub((left / MEMORY_RESERVE_DIVISOR).max(MEMORY_RESERVE_MIN));
        Self { segment_len, bytes_max: left.map_or(all, spare).min(all) }
    }

    /// Bytes that all streams may take.
    pub(crate) const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes that `streams` take.
    pub(crate) const fn bytes_of(&self, streams: usize) -> u64 {
        self.segment_len.saturating_mul(streams as u64)
    }

    /// Whether there is room for one stream beside `streams`.
    ///
    /// # Errors
    /// `StreamLimit`, `MemoryBudget`.
    pub(crate) fn one_more(&self, streams: usize) -> Result<(), ApiError> {
        if streams >= STREAMS_MAX {
            return Err(ApiError::StreamLimit { limit: STREAMS_MAX });
        }
        let Self { segment_len, bytes_max } = *self;
        if (streams as u64 + 1).saturating_mul(segment_len) > bytes_max {
            return Err(ApiError::MemoryBudget { streams, segment_len, bytes_max });
        }
        Ok(())
    }

    /// Whether `streams` are more than there is room for: then one of them stands in the reserve.
    pub(crate) fn is_exceeded_by(&self, streams: usize) -> bool {
        streams.checked_sub(1).is_some_and(|others| self.one_more(others).is_err())
    }
}

/// Bytes that can still be had: the least of what the machine and each cgroup above this process have left. `None` when
/// none of them tells. Files are looked at through `read`.
fn memory_left(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| available(&text));
    let own = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let groups = [(VERSION_2, "0::/"), (VERSION_1, ":memory:/")].into_iter().flat_map(|(names, mark)| {
        let left = |group: PathBuf| group_left(&names, |name| read(&group.join(name)));
        cgroups(&own, mark, names.root).into_iter().filter_map(left).collect::<Vec<_>>()
    });
    machine.into_iter().chain(groups).min()
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Directories of the process's cgroup and of all above it, from the line of `/proc/self/cgroup` with `mark`. In a container, some
/// may not be there: what is mounted may begin at the container's own group.
fn cgroups(proc_self_cgroup: &str, mark: &str, root: &str) -> Vec<PathBuf> {
    let path = proc_self_cgroup.lines().find_map(|line| line.split_once(mark)).map(|(_, path)| path);
    let climbs = |path: &Path| path.components().any(|part| part == Component::ParentDir);
    let all = path.into_iter().flat_map(|path| Path::new(path).ancestors());
    all.filter(|path| !climbs(path)).map(|path| Path::new(root).join(path)).collect()
}

/// Bytes that a cgroup has left; `None` when it has no limit. Pages of files that nobody uses count as left, as they do
/// in `MemAvailable`: else a container that has read or written a lot would seem full.
fn group_left(names: &Names, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (max, current) = (number(&read(names.limit)?)?, number(&read(names.taken)?)?);
    let stat = read("memory.stat").unwrap_or_default();
    let unused = stat.lines().find_map(|line| line.strip_prefix(names.unused)).and_then(number);
    Some(max.saturating_sub(current.saturating_sub(unused.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::super::engine;
    use super::*;
    use crate::ids::StreamUid;

    const MIB: u64 = 1024 * 1024;
    const MEMINFO: &str = "MemTotal:       24684032 kB\nMemFree:  19146752 kB\nMemAvailable:    1048576 kB\n";
    const HYBRID: &str = "4:memory:/old/way\n1:cpu:/\n0::/system.slice/vms.service\n";

    /// What is left where `files` are all there is.
    fn left(files: &[(&str, &str)]) -> Option<u64> {
        memory_left(|path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_machine_tells_what_is_available() {
        assert_eq!(left(&[("/proc/meminfo", MEMINFO)]), Some(1024 * MIB));
        for strange in ["", "MemAvailable:", "MemAvailable: x kB", "MemAvailable: 99999999999999999999 kB"] {
            assert_eq!(left(&[("/proc/meminfo", strange)]), None, "{strange:?}");
        }
        assert_eq!(available("MemAvailable: 18446744073709551615 kB"), None);
        assert_eq!(left(&[]), None);
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let (max, current) =
            ("/sys/fs/cgroup/system.slice/memory.max", "/sys/fs/cgroup/system.slice/memory.current");
        let mut files = vec![
            ("/proc/meminfo", MEMINFO),
            ("/proc/self/cgroup", HYBRID),
            ("/sys/fs/cgroup/system.slice/vms.service/memory.max", "max\n"),
            ("/sys/fs/cgroup/system.slice/vms.service/memory.current", "1048576\n"),
            (max, "314572800\n"),
            (current, "209715200\n"),
        ];
        assert_eq!(left(&files), Some(100 * MIB));
        files.push((
            "/sys/fs/cgroup/system.slice/memory.stat",
            "anon 7\ninactive_file 52428800\nactive_file 9\n",
        ));
        assert_eq!(left(&files), Some(150 * MIB), "unused pages of files can be had");
        files.retain(|(name, _)| *name != max);
        assert_eq!(left(&files), Some(1024 * MIB), "no group has a limit");
        // A container's own group, seen from within.
        let within = [
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/memory.max", "5"),
            ("/sys/fs/cgroup/memory.current", "9"),
        ];
        assert_eq!(left(&within), Some(0));
    }

    #[test]
    fn groups_of_version_1_count_too() {
        let own = "/sys/fs/cgroup/memory/old/way";
        let mut files = vec![
            ("/proc/meminfo".to_owned(), MEMINFO),
            ("/proc/self/cgroup".to_owned(), HYBRID),
            (format!("{own}/memory.limit_in_bytes"), "314572800\n"),
            (format!("{own}/memory.usage_in_bytes"), "209715200\n"),
            (format!("{own}/memory.stat"), "inactive_file 1\ntotal_inactive_file 52428800\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(), "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes".to_owned(), "1000000000\n"),
        ];
        let told = |files: &[(String, &str)]| {
            left(&files.iter().map(|(name, text)| (name.as_str(), *text)).collect::<Vec<_>>())
        };
        assert_eq!(told(&files), Some(150 * MIB));
        files.retain(|(name, _)| !name.starts_with(own));
        assert_eq!(told(&files), Some(1024 * MIB), "only what the machine has left");
    }

    #[test]
    fn groups_outside_of_the_mount_are_left_out() {
        let groups = |text| cgroups(text, "0::/", "/sys/fs/cgroup");
        assert_eq!(groups("0::/../../a\n"), [Path::new("/sys/fs/cgroup/")]);
        assert!(groups("4:memory:/a\n").is_empty(), "version 1");
        let all = ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"];
        assert_eq!(groups("0::/a/b"), all.map(PathBuf::from));
    }

    #[test]
    fn a_reserve_is_kept_and_more_than_all_streams_take_is_not_asked_for() {
        let bytes_max = |left| Budget::new(left, MIB).bytes_max();
        assert_eq!(bytes_max(Some(63 * MIB)), 0);
        assert_eq!(bytes_max(Some(256 * MIB)), 192 * MIB);
        assert_eq!(bytes_max(Some(1024 * MIB)), 896 * MIB);
        assert_eq!([bytes_max(Some(u64::MAX)), bytes_max(None)], [STREAMS_MAX as u64 * MIB; 2]);
    }

    #[test]
    fn one_stream_more_than_fits_is_refused_with_advice() {
        let budget = Budget { segment_len: 10 * MIB, bytes_max: 35 * MIB };
        assert_eq!([0, 1, 2].map(|streams| budget.one_more(streams)), [Ok(()), Ok(()), Ok(())]);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|streams| budget.is_exceeded_by(streams)),
            [false, false, false, false, true]
        );
        let refused = budget.one_more(3).unwrap_err();
        assert_eq!(refused.reason(), "MEMORY_LIMIT");
        let text = refused.to_string();
        assert!(text.contains("takes 10.0 MiB") && text.contains("of the 35.0 MiB"), "{text}");
        assert!(text.contains("tear one down"), "{text}");

        let roomy = Budget::new(None, 10 * MIB);
        assert_eq!(roomy.one_more(STREAMS_MAX - 1), Ok(()));
        assert_eq!(roomy.one_more(STREAMS_MAX), Err(ApiError::StreamLimit { limit: STREAMS_MAX }));
    }

    #[test]
    fn a_stream_is_counted_with_what_its_segment_takes() {
        let publisher = engine::make_publisher(StreamUid(1)).unwrap();
        let file = fs::File::from(publisher.fd().try_clone().unwrap());
        assert_eq!(Publisher::segment_len(ARENA_LEN_DEFAULT), Some(file.metadata().unwrap().len()));
    }
}
