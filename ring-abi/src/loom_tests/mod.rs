//! The model checks of `cursor`: its own functions run under loom, which tries every order that the memory model allows.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p ring-abi --lib loom`. Beside each model stand its mutants: the same
//! protocol with one fence, order or comparison wrong. A mutant must fail, with the message that names what a reader would
//! suffer, or the model proves nothing; its comment is a schedule that fails, "P" the producer and "R" the reader.
//!
//! What loom cannot show by values: a load that reads from a store which is later in the schedule. Where a mutant needs that (a head
//! or a release that is stored or loaded relaxed), the memory that changes hands is loom's `UnsafeCell`: loom reports an access to it
//! that is not ordered behind those before, whichever value it would have seen. Such a mutant fails by "Causality violation".
//! And loom remembers one access a word to find the schedules that differ: a load right before a store of the same word hides
//! whom the store races with. So writers keep private copies of what they store.

mod bell;
mod configs;
mod leases;
mod moves;
mod publish;
mod rings;
mod slots;
