//! vms-tap
fn main() {}
