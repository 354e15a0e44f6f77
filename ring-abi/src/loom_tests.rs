//! The model checks of `cursor`.
