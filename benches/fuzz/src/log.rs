//! The log of the embedded store: any records make a store or are damage, and a store that opened opens again.

use k8s_store::check::reopen;

/// Frames of the log between lines of three dashes. The target gives each its place and its checksum.
pub fn run(input: &[u8]) {
    let frames: Vec<&[u8]> = crate::parts(input).into_iter().take(16).collect();
    if let Err(wrong) = reopen(&frames) {
        panic!("{wrong}");
    }
}
