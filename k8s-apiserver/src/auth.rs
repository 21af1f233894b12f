//! Who asks, and whether they may.
//!
//! Authentication turns [`Credentials`] into a [`Caller`]; authorization turns a caller and what they want
//! ([`Attributes`]) into a [`Decision`]. Both are chains of trait objects given at construction; there is no switch
//! that turns either off.

pub mod authorization;
pub mod bearer;
pub mod bootstrap;
pub mod bootstrap_token;
mod check;
pub mod configuration;
pub mod expression;
pub mod front_proxy;
mod impersonation;
pub mod node;
pub mod oidc;
pub(crate) mod published;
pub mod rbac;
pub mod token;
pub mod webhook;
pub mod x509;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_core::{
    object::{Object, ObjectKey},
    request::{Caller, Target, Verb},
    selector::FieldSelector,
    status::{ApiError, ApiResult},
};

pub use self::{check::check, impersonation::act_as, published::PublishedAuthentication};

/// What a connection and its headers say of who asks.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The client's certificate chain, leaf first, DER. The TLS layer has verified it against the client CA.
    pub certificates: Vec<Vec<u8>>,
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<String>,
}

/// One way to tell who asks. `Ok(None)` passes the question on; an error refuses outright.
///
/// Credentials with a token are asked about with every request. Who a certificate without a token is found to be, that
/// the connection stays.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Tells who presents these credentials.
    async fn authenticate(&self, credentials: &Credentials) -> ApiResult<Option<Caller>>;
}

/// What a caller wants to do, as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// The verb as rules name it (`get`, `create`, `impersonate`, `bind`, ...).
    pub verb: &'a str,
    /// What it is about: an object or collection, or a path that is no resource.
    pub subject: Subject<'a>,
    /// The field selector of a list or watch: some callers may only ask for a part.
    pub fields: Option<&'a FieldSelector>,
}

/// The two kinds of thing that rules speak of.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A resource of the API.
    Resource(&'a Target),
    /// A path such as `/version`.
    Path(&'a str),
}

impl<'a> Attributes<'a> {
    /// A request on a resource.
    pub fn on(caller: &'a Caller, verb: Verb, target: &'a Target) -> Self {
        Self { caller, verb: verb.as_str(), subject: Subject::Resource(target), fields: None }
    }

    /// A request for a path that is no resource.
    pub fn on_path(caller: &'a Caller, verb: &'a str, path: &'a str) -> Self {
        Self { caller, verb, subject: Subject::Path(path), fields: None }
    }

    /// The same, with the field selector of a list or watch.
    pub fn with_fields(self, fields: &'a FieldSelector) -> Self {
        Self { fields: Some(fields), ..self }
    }

    /// The resource, unless it is a path.
    pub fn target(&self) -> Option<&'a Target> {
        match self.subject {
            Subject::Resource(target) => Some(target),
            Subject::Path(_) => None,
        }
    }
}

/// The answer of an authorizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes; nobody else is asked.
    Allow,
    /// No; nobody else is asked.
    Deny(String),
    /// Not mine to say; the next one is asked, and if nobody allows, it is forbidden. The text helps people.
    NoOpinion(String),
}

/// One way to tell whether a caller may.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Decides. It is asked for every request; one that has to ask elsewhere keeps the answers.
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

/// Sees every committed object of the kinds it follows, in revision order, as the cache applies it.
///
/// That is how authorizers and token checks stay true without a read per request. Called synchronously for each
/// object at start and for each change after; must not block.
pub trait Follower: Send + Sync + 'static {
    /// Whether it follows this resource.
    fn follows(&self, group: &str, plural: &str) -> bool;
    /// One object is now `new`; `None` means gone.
    fn changed(&self, group: &str, plural: &str, key: &ObjectKey, new: Option<&Arc<Object>>);
}

/// Allows everything to the group `system:masters`, whatever anybody else would say: the way back in.
pub struct Masters;

#[async_trait]
impl Authorizer for Masters {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.caller.is_in("system:masters") { Decision::Allow } else { Decision::NoOpinion(String::new()) }
    }
}

/// Who is asked whether a caller may, after [`Masters`].
pub enum Mode {
    /// The node authorizer.
    Node,
    /// Roles and their bindings.
    Rbac,
    /// Somebody else.
    Other(Arc<dyn Authorizer>),
}

/// Asks several authorizers in order.
pub struct Union(pub Vec<Arc<dyn Authorizer>>);

#[async_trait]
impl Authorizer for Union {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join(", "))
    }
}

/// Asks several authenticators in order; the first that knows the caller wins. One that refuses does not keep the next
/// ones from knowing the caller; if nobody does, the refusal stands, as 401 whatever its reason.
pub struct Chain(pub Vec<Arc<dyn Authenticator>>);

#[async_trait]
impl Authenticator for Chain {
    async fn authenticate(&self, credentials: &Credentials) -> ApiResult<Option<Caller>> {
        let mut refused = false;
        for authenticator in &self.0 {
            match authenticator.authenticate(credentials).await {
                Ok(Some(caller)) => return Ok(Some(caller)),
                Ok(None) => {}
                Err(why) => {
                    refused = true;
                    if why.code() != 401 {
                        tracing::warn!(%why, "an authenticator could not tell who asks");
                    }
                }
            }
        }
        if refused { Err(ApiError::unauthorized()) } else { Ok(None) }
    }
}

/// Whether somebody who shows nothing may ask as `system:anonymous`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// Everywhere; what they may is another question.
    #[default]
    Anywhere,
    /// For these paths alone.
    At(Vec<String>),
    /// Nowhere.
    Nowhere,
}

impl Anonymous {
    /// Whether a request for `path` may come from nobody in particular.
    pub fn is_let_in(&self, path: &str) -> bool {
        match self {
            Self::Anywhere => true,
            Self::At(paths) => paths.iter().any(|let_in| let_in == path),
            Self::Nowhere => false,
        }
    }
}

/// What a bound token is asked for: the spec of a `TokenRequest`.
#[derive(Debug, Clone, Default)]
pub struct TokenClaims {
    /// Namespace of the service account.
    pub namespace: String,
    /// Name of the service account.
    pub service_account: String,
    /// Uid of the service account.
    pub uid: String,
    /// Audiences; empty is the API server's own.
    pub audiences: Vec<String>,
    /// How long it is good for.
    pub seconds: u64,
    /// How long it would have been good for if it were not extended.
    pub warn_after_seconds: Option<u64>,
    /// The pod it is bound to: name and uid.
    pub pod: Option<(String, String)>,
    /// The node of that pod: name and uid.
    pub node: Option<(String, String)>,
    /// The secret it is bound to: name and uid.
    pub secret: Option<(String, String)>,
}

/// Makes service account tokens.
pub trait TokenIssuer: Send + Sync + 'static {
    /// Signs a token; answers it with its expiry as a Unix time in seconds.
    fn issue(&self, claims: &TokenClaims) -> ApiResult<(String, i64)>;

    /// The `iss` of every token.
    fn issuer(&self) -> &str;

    /// The audiences of a request that names none.
    fn default_audiences(&self) -> &[String];

    /// The public keys, as the JSON of a JWKS document.
    fn jwks(&self) -> String;

    /// The algorithms of these keys, sorted: `ES256`.
    fn algorithms(&self) -> Vec<&str>;
}
