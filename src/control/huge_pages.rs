//! Whether arenas are to have pages of 2 MiB. `ring-abi` asks for them; a setting of the machine decides. What it says is not always
//! had: memory may be too fragmented.
//!
//! See the kernel's `Documentation/admin-guide/mm/transhuge.rst`, "Hugepages in tmpfs/shmem": memfds follow the global
//! `shmem_enabled`, since Linux 6.11 unless the page size's own file says otherwise.

use std::fs;

use tracing::info;

/// Bytes of an ordinary page on the platforms we support.
const PAGE_LEN: u64 = 4 << 10;
const HUGE_PAGE_LEN: u64 = 2 << 20;

const GLOBAL: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
const OF_THIS_SIZE: &str = "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/shmem_enabled";

/// Bytes of the pages that the kernel is to give to an arena made now.
pub fn arena_page_len() -> u64 {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    if are_given(chosen(&read(GLOBAL)), chosen(&read(OF_THIS_SIZE))) { HUGE_PAGE_LEN } else { PAGE_LEN }
}

/// Tells the operator what could be gained.
pub(crate) fn log() {
    match arena_page_len() {
        HUGE_PAGE_LEN => info!("the kernel is set to give arenas pages of 2 MiB"),
        _ => info!(
            "arenas lie on pages of 4 KiB; with `advise` in {GLOBAL} (and `inherit` in {OF_THIS_SIZE}) those made from then on have \
             pages of 2 MiB, which takes less processor time"
        ),
    }
}

/// Whether memory that asks for huge pages gets them.
fn are_given(global: &str, of_this_size: &str) -> bool {
    match (global, of_this_size) {
        ("deny", _) => false,
        ("force" | "always" | "within_size" | "advise", "inherit" | "") => true,
        // It forces those sizes that follow it, and no other.
        ("force", _) => false,
        (_, own) => matches!(own, "always" | "within_size" | "advise"),
    }
}

/// The word in brackets.
fn chosen(setting: &str) -> &str {
    setting.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_word_stands_in_brackets() {
        assert_eq!(chosen("always within_size [advise] never deny force\n"), "advise");
        assert_eq!((chosen(""), chosen("advise"), chosen("[x")), ("", "", ""));
    }

    #[test]
    fn a_size_may_follow_the_global_setting_or_not() {
        for (global, of_this_size, given) in [
            ("advise", "inherit", true),
            ("advise", "", true),
            ("never", "inherit", false),
            ("never", "", false),
            ("never", "advise", true),
            ("always", "never", false),
            ("deny", "always", false),
            ("force", "inherit", true),
            ("force", "never", false),
            ("force", "advise", false),
            ("within_size", "inherit", true),
            ("", "", false),
        ] {
            assert_eq!(are_given(global, of_this_size), given, "{global:?} {of_this_size:?}");
        }
    }
}
