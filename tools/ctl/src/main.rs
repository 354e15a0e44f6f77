//! vms-ctl
fn main() {}
