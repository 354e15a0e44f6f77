//! What this process, its container and its user may have, out of what the system says: pure.

use super::finding::Finding;

/// Descriptors that a stream takes at most: a socket, its memory, and other memory while it moves to that.
const DESCRIPTORS_PER_STREAM: u64 = 3;
/// Descriptors of all else: listeners, callers, readers, shards.
const DESCRIPTORS_BESIDE: u64 = 512;
/// Bytes that the daemon may want to lock, on kernels that count an io_uring's own memory.
const MEMLOCK_MIN: u64 = 64 * 1024;
/// Periods in which a group was held up, of a thousand, above which that matters.
const THROTTLED_MIN_PERMILLE: u64 = 10;

/// Open files: `most` is the hard limit, which the daemon takes; `None` is no limit.
pub(crate) fn open_files(most: Option<u64>, streams: u64) -> Finding {
    let wanted = DESCRIPTORS_BESIDE + DESCRIPTORS_PER_STREAM * streams;
    let Some(most) = most.filter(|most| *most < wanted) else {
        let limit = most.map_or_else(|| "no limit".to_owned(), |most| format!("at most {most}"));
        return Finding::ok("open files", format!("{limit}; {streams} streams take up to {wanted}"));
    };
    let fit = most.saturating_sub(DESCRIPTORS_BESIDE) / DESCRIPTORS_PER_STREAM;
    Finding::fail("open files", format!("at most {most}, enough for {fit} streams; {streams} take up to {wanted}"))
        .why("a stream without a socket stays down, and a reader without its ring is turned away")
        .fix(format!(
            "LimitNOFILE={wanted} in the systemd unit; docker run --ulimit nofile={wanted}; in a shell: ulimit -Hn {wanted}"
        ))
}

/// Memory that may be locked; `None` is no limit.
pub(crate) fn locked_memory(most: Option<u64>) -> Finding {
    match most.filter(|most| *most < MEMLOCK_MIN) {
        None => {
            let limit =
                most.map_or_else(|| "no limit".to_owned(), |most| format!("at most {} KiB", most >> 10));
            Finding::ok("locked memory", format!("{limit}; nothing is locked since Linux 5.12"))
        }
        Some(most) => Finding::warn("locked memory", format!("at most {} KiB", most >> 10))
            .why("some kernels count the rings of io_uring as locked memory")
            .fix("LimitMEMLOCK=8M in the systemd unit; docker run --ulimit memlock=8388608"),
    }
}

/// Memory for streams: what the daemon would let them take, and what one takes.
pub(crate) fn memory(bytes_max: u64, bytes_per_stream: u64, streams: u64) -> Finding {
    let fit = bytes_max.checked_div(bytes_per_stream).unwrap_or(0);
    let found = format!("{} MiB for streams: enough for {fit}", bytes_max >> 20);
    if fit >= streams {
        return Finding::ok("memory", found);
    }
    let wanted = bytes_per_stream.saturating_mul(streams) >> 20;
    Finding::fail("memory", format!("{found}; {streams} take {wanted} MiB"))
        .why("a stream takes 8 MiB of shared memory, for 16 seconds at 4 Mbit/s; one that does not fit is refused")
        .fix("free some, or raise the limit: MemoryMax= in the systemd unit, docker run --memory")
}

/// Processor time that a cgroup lets its processes have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quota {
    /// Cores, in thousandths.
    pub(crate) millicores: u64,
}

impl Quota {
    /// Of `cpu.max` (version 2): `QUOTA PERIOD`; `None` when there is no limit.
    pub(crate) fn of_version_2(cpu_max: &str) -> Option<Self> {
        let (quota, period) = cpu_max.trim().split_once(' ')?;
        Self::of(quota, period)
    }

    /// Of `cpu.cfs_quota_us` and `cpu.cfs_period_us` (version 1); `None` when there is no limit, which is a quota of -1.
    pub(crate) fn of_version_1(quota: &str, period: &str) -> Option<Self> {
        Self::of(quota, period)
    }

    fn of(quota: &str, period: &str) -> Option<Self> {
        let (quota, period): (u64, u64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
        Some(Self { millicores: quota.saturating_mul(1000).checked_div(period)? })
    }
}

/// Parts of a thousand of its periods in which a cgroup was held up, from `cpu.stat`; `None` when that does not tell.
pub(crate) fn throttled_permille(cpu_stat: &str) -> Option<u64> {
    let number = |name: &str| {
        let line = cpu_stat.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    number("nr_throttled ")?.saturating_mul(1000).checked_div(number("nr_periods ")?)
}

/// Cores that this process may use, what its cgroup lets it have of them, and how often it was held up.
pub(crate) fn cores(cores: usize, quota: Option<Quota>, throttled_permille: Option<u64>) -> Finding {
    let Some(Quota { millicores }) = quota else {
        return Finding::ok("cores", format!("{cores}, one shard each, all of their time"));
    };
    let part = format!("{}.{} of {cores} cores' time", millicores / 1000, millicores % 1000 / 100);
    let throttled = throttled_permille.filter(|permille| *permille >= THROTTLED_MIN_PERMILLE);
    let found = match throttled {
        Some(permille) => format!("{part}; held up in {} % of its periods", permille / 10),
        None => part,
    };
    if throttled.is_none() && millicores >= 1000 {
        return Finding::ok("cores", found);
    }
    Finding::warn("cores", found)
        .why("when the time of a period (most often 100 ms) is used up, all streams stand still until the next")
        .fix("raise CPUQuota= in the systemd unit, docker run --cpus, or limits.cpu in Kubernetes; weights disturb less than quotas")
}

/// What watches over this process: `Seccomp` and `NoNewPrivs` of `/proc/self/status`.
pub(crate) fn confinement(status: &str) -> Finding {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let seccomp = match field("Seccomp:") {
        Some("0") => "no seccomp filter",
        Some("2") => "a seccomp filter, which was tried above",
        Some(_) => "strict seccomp",
        None => "seccomp not known",
    };
    let privileges = match field("NoNewPrivs:") {
        Some("1") => "no new privileges",
        _ => "may gain privileges (NoNewPrivileges=yes in a systemd unit is safer)",
    };
    Finding::ok("confinement", format!("{seccomp}; {privileges}"))
}

/// Whether a seccomp filter watches this process.
pub(crate) fn is_filtered(status: &str) -> bool {
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn files_are_counted_against_the_streams_that_are_wanted() {
        assert_eq!(open_files(None, 4096).level, Level::Ok);
        assert_eq!(open_files(Some(1024), 64).level, Level::Ok);
        let few = open_files(Some(1024), 500);
        assert_eq!(few.level, Level::Fail);
        assert!(few.found.contains("enough for 170 streams; 500 take up to 2012"), "{few:?}");
        assert!(few.fix.unwrap().contains("LimitNOFILE=2012"));
        assert!(open_files(Some(10), 1).found.contains("enough for 0 streams"));
    }

    #[test]
    fn memory_is_counted_in_streams() {
        assert_eq!(memory(900 * MIB, 9 * MIB, 100).level, Level::Ok);
        let short = memory(900 * MIB, 9 * MIB, 101);
        assert_eq!(
            (short.level, short.found.as_str()),
            (Level::Fail, "900 MiB for streams: enough for 100; 101 take 909 MiB")
        );
        assert_eq!(memory(0, 0, 1).level, Level::Fail);
        assert_eq!(
            [locked_memory(Some(8 * MIB)).level, locked_memory(Some(0)).level],
            [Level::Ok, Level::Warn]
        );
        assert_eq!(locked_memory(None).level, Level::Ok);
    }

    #[test]
    fn quotas_of_both_versions() {
        assert_eq!(Quota::of_version_2("max 100000\n"), None);
        assert_eq!(Quota::of_version_2("150000 100000\n"), Some(Quota { millicores: 1500 }));
        assert_eq!(Quota::of_version_1("-1\n", "100000\n"), None);
        assert_eq!(Quota::of_version_1("50000\n", "100000\n"), Some(Quota { millicores: 500 }));
        for strange in ["", "1", "x y", "1 0"] {
            assert_eq!(Quota::of_version_2(strange), None, "{strange:?}");
        }
        assert_eq!(throttled_permille("nr_periods 200\nnr_throttled 3\nthrottled_usec 9\n"), Some(15));
        assert_eq!(throttled_permille("usage_usec 1\n"), None);
        assert_eq!(throttled_permille("nr_periods 0\nnr_throttled 0\n"), None);
    }

    #[test]
    fn a_quota_matters_when_it_bites() {
        assert_eq!(cores(4, None, None).level, Level::Ok);
        let half = Some(Quota { millicores: 500 });
        assert_eq!(cores(4, half, None).level, Level::Warn);
        let ample = Some(Quota { millicores: 2500 });
        assert_eq!(cores(4, ample, Some(9)).level, Level::Ok);
        let held_up = cores(4, ample, Some(15));
        assert_eq!(held_up.found, "2.5 of 4 cores' time; held up in 1 % of its periods");
        assert_eq!(held_up.level, Level::Warn);
    }

    #[test]
    fn what_watches_over_the_process_is_told() {
        let docker = "NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert!(is_filtered(docker) && !is_filtered("Seccomp:\t0\nSeccomp_filters:\t0\n"));
        assert_eq!(confinement(docker).found, "a seccomp filter, which was tried above; no new privileges");
        assert!(confinement("").found.contains("not known"));
    }
}
