//! The ring ABI.
