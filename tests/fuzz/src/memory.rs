//! What is on the heap.

use std::alloc::System;
use std::panic;

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

/// From now on an allocation fails, which is a finding, when more would be held. What a finding has to say may take more.
pub fn limit() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |finding| {
        let _ = ALLOCATOR.set_limit(usize::MAX);
        tell(finding);
    }));
    ALLOCATOR.set_limit(held() + HELD_MAX).expect("less is held");
}
