//! Cleaning up tokens in Secrets that nobody uses: those that once came with every service account, as upstream's
//! legacy-service-account-token-cleaner does. First they are marked as invalid, and refused from then on; who misses one
//! takes the mark away. Much later they are deleted.

pub mod plan;
#[cfg(feature = "service")]
mod shell;

#[cfg(feature = "service")]
pub use self::shell::{LegacyTokenCleaner, controller};
