//! What is asked of the API server, and what it answers, as values.
//!
//! An [`ApiRequest`] says the same whether it came over a socket or from a controller in the same process. The
//! network form (path, query, body) is made and read in `path`; this file knows no HTTP.

use std::{any::Any, fmt, pin::Pin, sync::Arc, time::Duration};

use compact_str::CompactString as Text;
use futures::Stream;

use crate::{
    doc::Doc,
    object::Object,
    seam::node::ByteStream,
    selector::{FieldSelector, LabelSelector},
    status::{ApiError, ApiResult, Status},
};

/// One question to the API server.
#[derive(Debug, Clone, Default)]
pub struct ApiRequest {
    /// What to do.
    pub verb: Verb,
    /// To what.
    pub target: Target,
    /// How.
    pub options: Options,
    /// With what.
    pub body: RequestBody,
    /// Who to act as; `None` is the transport's own identity. Over a network `Some` becomes impersonation.
    pub caller: Option<Caller>,
    /// The leadership that this write depends on; the write fails with a conflict once it is lost.
    pub fence: Option<Fence>,
    /// What the body's text said twice, as messages (`duplicate field "spec.x"`): a [`Doc`] cannot hold it, and field
    /// validation reports it together with unknown fields.
    pub duplicates: Vec<String>,
    /// What a layer in front of the same server hands on beside the request.
    pub attachment: Attachment,
}

/// A value that travels with a request inside one process. No network carries it, and nobody but its giver knows its type.
#[derive(Clone, Default)]
pub struct Attachment(Option<Arc<dyn Any + Send + Sync>>);

impl Attachment {
    /// Hands on `value`.
    pub fn new<T: Send + Sync + 'static>(value: Arc<T>) -> Self {
        Self(Some(value))
    }

    /// What was handed on, if it is of this type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.clone()?.downcast().ok()
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Attachment(...)" } else { "Attachment" })
    }
}

/// The verbs of the API, as authorization rules name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[allow(missing_docs)] // The names are upstream's.
pub enum Verb {
    #[default]
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// `exec`, `attach`, `portforward`, `log` and `proxy`: a stream to a node or pod. Authorized as `get` or
    /// `create`, as the method was.
    Connect,
}

impl Verb {
    /// The word in rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Connect => "connect",
        }
    }

    /// Whether the request may change the store.
    pub fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch | Self::Connect)
    }
}

/// Group, version and plural name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ResourceType {
    /// The API group; empty for the core group.
    pub group: Text,
    /// The version, such as `v1`.
    pub version: Text,
    /// The plural name, such as `pods`.
    pub plural: Text,
}

impl ResourceType {
    /// A resource type.
    pub fn new(group: impl Into<Text>, version: impl Into<Text>, plural: impl Into<Text>) -> Self {
        Self { group: group.into(), version: version.into(), plural: plural.into() }
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.plural) } else { write!(f, "{}.{}", self.plural, self.group) }
    }
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// Which resource.
    pub resource: ResourceType,
    /// Such as `status`; empty for the object itself.
    pub subresource: Text,
    /// The namespace; empty for cluster scope and for all namespaces.
    pub namespace: Text,
    /// The object's name; empty for collections (and for create).
    pub name: Text,
}

impl Target {
    /// A collection.
    pub fn all(resource: ResourceType, namespace: impl Into<Text>) -> Self {
        Self { resource, namespace: namespace.into(), ..Self::default() }
    }

    /// One object.
    pub fn one(resource: ResourceType, namespace: impl Into<Text>, name: impl Into<Text>) -> Self {
        Self { resource, namespace: namespace.into(), name: name.into(), ..Self::default() }
    }

    /// The same with a subresource.
    pub fn subresource(mut self, subresource: impl Into<Text>) -> Self {
        self.subresource = subresource.into();
        self
    }
}

/// The query parameters that all resources share, with upstream's names and meanings (`metav1.*Options`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// `labelSelector`.
    pub label_selector: LabelSelector,
    /// `fieldSelector`.
    pub field_selector: FieldSelector,
    /// `limit`: objects per page; `None` or 0 is no limit.
    pub limit: Option<u64>,
    /// `continue`: the token of the page before.
    pub continue_token: Option<String>,
    /// `resourceVersion`.
    pub resource_version: Option<u64>,
    /// `resourceVersionMatch`.
    pub resource_version_match: Option<VersionMatch>,
    /// `timeoutSeconds`.
    pub timeout: Option<Duration>,
    /// `allowWatchBookmarks`.
    pub allow_watch_bookmarks: bool,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `fieldManager`; `None` is derived from the user agent.
    pub field_manager: Option<Text>,
    /// `force` of server-side apply.
    pub force: bool,
    /// `fieldValidation`.
    pub field_validation: FieldValidation,
    /// `gracePeriodSeconds`.
    pub grace_period_seconds: Option<i64>,
    /// `propagationPolicy`.
    pub propagation: Option<Propagation>,
    /// `preconditions.uid`.
    pub precondition_uid: Option<Text>,
    /// `preconditions.resourceVersion`.
    pub precondition_version: Option<u64>,
    /// The raw query of a [`Verb::Connect`], passed on as it came.
    pub connect_query: String,
    /// What follows `proxy` in the path of a [`Verb::Connect`], with its leading slash, passed on as it came.
    pub connect_path: String,
    /// What a [`Verb::Connect`] is authorized as: `create` for what opens a shell or a tunnel, else by its method.
    pub connect_as: Verb,
}

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are upstream's.
pub enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// What happens to unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Dropped in silence.
    Ignore,
    /// Dropped with a warning: the default, as upstream's.
    #[default]
    Warn,
    /// Refused.
    Strict,
}

/// What happens to the dependents of what is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay and lose the owner.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

impl Propagation {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "Orphan",
            Self::Background => "Background",
            Self::Foreground => "Foreground",
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Caller {
    /// The user name, such as `system:kube-scheduler`.
    pub name: Text,
    /// The user's uid, if the authenticator knows one.
    pub uid: Text,
    /// The groups.
    pub groups: Vec<Text>,
    /// What else the authenticator knows.
    pub extra: Vec<(Text, Vec<Text>)>,
    /// The user agent, from which the field manager is derived.
    pub agent: Text,
}

impl Caller {
    /// An authenticated user; `system:authenticated` is added to the groups.
    pub fn new(name: impl Into<Text>, groups: &[&str]) -> Self {
        let mut groups: Vec<Text> = groups.iter().map(|group| Text::from(*group)).collect();
        groups.push("system:authenticated".into());
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// `system:anonymous`.
    pub fn anonymous() -> Self {
        let groups = vec!["system:unauthenticated".into()];
        Self { name: "system:anonymous".into(), groups, ..Self::default() }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let group = format!("system:serviceaccounts:{namespace}");
        Self::new(format!("system:serviceaccount:{namespace}:{name}"), &["system:serviceaccounts", &group])
    }

    /// The same with a user agent.
    pub fn with_agent(mut self, agent: impl Into<Text>) -> Self {
        self.agent = agent.into();
        self
    }

    /// Whether the caller is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// A leadership epoch that a write depends on.
///
/// `revision` is the resource version of the Lease at which its holder last changed. The write is committed only if
/// that is still so. It covers the store only, not outside effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Namespace of the Lease.
    pub namespace: Text,
    /// Name of the Lease.
    pub name: Text,
    /// The resource version of the Lease when its holder last changed.
    pub revision: u64,
}

/// What a request carries.
#[derive(Debug, Clone, Default)]
pub enum RequestBody {
    /// Nothing.
    #[default]
    None,
    /// A whole object.
    Doc(Doc),
    /// A change to an object.
    Patch(PatchKind, Doc),
}

/// How a patch is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902: `application/json-patch+json`.
    Json,
    /// RFC 7386: `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// Server-side apply: `application/apply-patch+yaml`.
    Apply,
}

/// What the API server answers when it did what was asked.
#[derive(Debug)]
pub struct ApiResponse {
    /// 200, 201 or 202.
    pub code: u16,
    /// For the `Warning` header: text for people.
    pub warnings: Vec<String>,
    /// The answer.
    pub body: ResponseBody,
}

/// The forms that an answer has.
pub enum ResponseBody {
    /// A stored object.
    Object(Arc<Object>),
    /// A value that is not stored: a review, a scale, a dry run.
    Doc(Doc),
    /// A collection.
    List(ObjectList),
    /// Changes as they happen.
    Watch(WatchStream),
    /// Done; there is no object to show.
    Status(Status),
    /// A connection to the backend of a [`Verb::Connect`], on which the asker now speaks HTTP/1.1.
    Connection(Connection),
}

/// A collection at one revision.
#[derive(Debug, Clone, Default)]
pub struct ObjectList {
    /// The objects, in key order.
    pub items: Vec<Arc<Object>>,
    /// The revision that the whole list shows.
    pub revision: u64,
    /// Present when there is more.
    pub continue_token: Option<String>,
    /// How many follow, where known.
    pub remaining: Option<u64>,
}

/// Changes as they happen. Ends without an error when the timeout passes.
pub type WatchStream = Pin<Box<dyn Stream<Item = ApiResult<WatchEvent>> + Send>>;

/// One change. Revisions rise along a stream.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// The object is new, or now matches the selector.
    Added(Arc<Object>),
    /// The object changed.
    Modified(Arc<Object>),
    /// The object is gone, or no longer matches; at the revision that did it.
    Deleted(Arc<Object>),
    /// Nothing that matches happened up to this revision.
    Bookmark {
        /// The revision reached.
        revision: u64,
        /// Whether this ends the initial events of `sendInitialEvents`.
        initial_events_end: bool,
    },
}

impl WatchEvent {
    /// The object, unless it is a bookmark.
    pub fn object(&self) -> Option<&Arc<Object>> {
        match self {
            Self::Added(object) | Self::Modified(object) | Self::Deleted(object) => Some(object),
            Self::Bookmark { .. } => None,
        }
    }

    /// The revision of the change.
    pub fn revision(&self) -> u64 {
        match self {
            Self::Added(object) | Self::Modified(object) | Self::Deleted(object) => object.revision(),
            Self::Bookmark { revision, .. } => *revision,
        }
    }
}

/// An authorized connection to a node's or pod's own server.
pub struct Connection {
    /// The bytes; nothing was sent yet.
    pub stream: Box<dyn ByteStream>,
    /// For the `Host` header.
    pub host: String,
    /// What to ask for.
    pub path_and_query: String,
}

impl ApiResponse {
    /// 200 with a body.
    pub fn ok(body: ResponseBody) -> Self {
        Self { code: 200, warnings: Vec::new(), body }
    }

    /// 201 with a body.
    pub fn created(body: ResponseBody) -> Self {
        Self { code: 201, warnings: Vec::new(), body }
    }

    /// The stored object, where one was expected.
    pub fn into_object(self) -> ApiResult<Arc<Object>> {
        match self.body {
            ResponseBody::Object(object) => Ok(object),
            other => Err(unexpected("an object", &other)),
        }
    }

    /// The answer as a document, stored or not.
    pub fn into_doc(self) -> ApiResult<Doc> {
        match self.body {
            ResponseBody::Doc(doc) => Ok(doc),
            ResponseBody::Object(object) => {
                Doc::parse(&object.to_json()).map_err(|why| ApiError::internal(format!("answer: {why}")))
            }
            other => Err(unexpected("an object", &other)),
        }
    }

    /// The collection, where one was expected.
    pub fn into_list(self) -> ApiResult<ObjectList> {
        match self.body {
            ResponseBody::List(list) => Ok(list),
            other => Err(unexpected("a list", &other)),
        }
    }

    /// The stream, where one was expected.
    pub fn into_watch(self) -> ApiResult<WatchStream> {
        match self.body {
            ResponseBody::Watch(stream) => Ok(stream),
            other => Err(unexpected("a watch", &other)),
        }
    }
}

fn unexpected(wanted: &str, got: &ResponseBody) -> ApiError {
    ApiError::internal(format!("the server answered {got:?} where {wanted} was asked for"))
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => object.fmt(f),
            Self::Doc(_) => f.write_str("a document"),
            Self::List(list) => write!(f, "a list of {} at {}", list.items.len(), list.revision),
            Self::Watch(_) => f.write_str("a watch"),
            Self::Status(status) => write!(f, "status {}", status.status),
            Self::Connection(connection) => write!(f, "a connection to {}", connection.host),
        }
    }
}
