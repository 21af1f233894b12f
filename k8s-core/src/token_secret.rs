//! The names by which service account tokens are kept in Secrets: what the API server and the controllers say to each
//! other about them.

/// The type of such Secrets.
pub const TYPE: &str = "kubernetes.io/service-account-token";
/// The annotation that names the account.
pub const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
/// The annotation with the account's uid.
pub const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The label with the day on which the token was last used, in UTC.
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The label with the day from which on the token is refused.
pub const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// The ConfigMap in `kube-system` that says, as `since`, from which day on uses are noted.
pub const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
