//! What the kernel says of its clock: `adjtimex(2)`, which no safe crate has.

#![expect(unsafe_code, reason = "a system call without a safe door")]

use super::kernel::ClockState;

/// Asks, and changes nothing. `None` when that is not allowed.
pub(super) fn clock_state() -> Option<ClockState> {
    // SAFETY: a structure of integers, for which all bits 0 are a value; `modes` of 0 means that nothing is to be set.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a `timex` that lives until the call returns, and that nobody else has.
    let clock = unsafe { libc::adjtimex(&raw mut state) };
    (clock >= 0).then_some(ClockState { status: state.status, max_error_us: state.maxerror })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_tells_how_far_it_may_be_off() {
        let state = clock_state().unwrap();
        assert!(state.max_error_us >= 0, "{state:?}");
    }
}
