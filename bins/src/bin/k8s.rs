//! Placeholder until the parts it puts together are there.
fn main() {}
