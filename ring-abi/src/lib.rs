//! The shared-memory ring ABI of vms-media. `SPEC.md` is the contract; this crate is its first implementation.
//!
//! ```text
//!  producer process                                   reader process
//!  ┌────────────────┐   stream segment (sealed)      ┌───────────────┐
//!  │ producer       │──▶ state · tracks · configs ──▶│ consumer      │
//!  │                │   · arenas                     │               │
//!  │                │──▶ descriptor ring, one a ────▶│               │
//!  │                │   reader and stream            │               │
//!  │                │──▶ session: bell, tails ──────▶│               │
//!  │                │◀── session cursor: parked, ◀───│               │
//!  └───────┬────────┘   heads (a claim, checked)     └───────┬───────┘
//!          └── server ◀── SOCK_SEQPACKET, handshake, fds ──▶ client
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`layout`] | every offset, word and number of the ABI |
//! | [`position`] | arithmetic of arena positions |
//! | [`join`] | where a reader enters, its class and filters |
//! | [`handshake`] | the messages of the attach socket |
//! | [`producer`] | writing a stream, feeding readers, sessions |
//! | [`server`] | the producer's side of the handshake, without a socket |
//! | [`consumer`] | reading many streams through one session |
//! | [`lease`] | frames that are lent: the pool's slots, and how readers give them back |
//! | `cursor` | the protocol's steps on shared words, model-checked |
//! | `map` | UNSAFE: mapped memory behind atomic words and opaque copies |
//! | `state_words` | the words of a stream's state, for either side |
//! | `segment`, `socket`, `client` | memfds and seals; messages with descriptors; connecting |

pub mod layout;
pub mod lease;
pub mod position;

mod cursor;

#[cfg(not(loom))]
pub mod consumer;
#[cfg(not(loom))]
pub mod handshake;
#[cfg(not(loom))]
pub mod join;
#[cfg(not(loom))]
pub mod producer;
#[cfg(not(loom))]
pub mod server;
#[cfg(not(loom))]
pub mod socket;

#[cfg(not(loom))]
mod client;
#[cfg(not(loom))]
mod map;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
mod state_words;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
