//! What is on the heap.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes that the process has allocated and not freed.
pub fn held() -> usize {
    ALLOCATOR.allocated()
}

/// What a target and what it looks at may hold at any moment: several machines, each with a message and a unit of the largest size,
/// and all that was told.
const HELD_MAX: usize = 32 << 20;

/// From now on an allocation fails, which is a finding, when more would be held.
pub fn limit() {
    ALLOCATOR.set_limit(held() + HELD_MAX).expect("less is held");
}
