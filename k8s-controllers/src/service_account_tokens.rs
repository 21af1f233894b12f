//! Service account tokens in Secrets: who writes a Secret of the type `kubernetes.io/service-account-token` that names
//! an account gets a token in it, and it goes with the account.

pub mod plan;
#[cfg(feature = "service")]
mod shell;

#[cfg(feature = "service")]
pub use self::shell::{Issuer, ServiceAccountTokens, controller};
