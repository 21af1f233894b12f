//! Create, update and patch: one road through structure, defaults, admission, strategy and the store.

use std::sync::Arc;

use k8s_core::{
    apply::{self, Manager, Operation},
    defaulting,
    doc::{Doc, Text},
    object::Object,
    patch,
    registry::ResourceInfo,
    request::{
        ApiRequest, ApiResponse, Caller, FieldValidation, Options, PatchKind, RequestBody, ResponseBody, Target, Verb,
    },
    schema::Schema,
    status::{ApiError, ApiResult},
    strategy::{Strategy, strategy_for},
    structure::{self, Mode},
};

use super::{
    Shared,
    commit::{Refused, Write},
};
use crate::admission::AdmissionRequest;

/// How often a write is tried again because somebody else wrote first.
const ATTEMPTS: usize = 8;
/// How often another name is generated because one was taken.
const NAME_ATTEMPTS: usize = 8;
/// Names are generated up to this length before the suffix.
const MAX_GENERATED_BASE: usize = 58;

/// Everything about a kind that a write needs.
pub(super) struct KindRules {
    pub schema: Schema,
    pub strategy: &'static dyn Strategy,
}

/// Which part of an object a write may change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything but the status.
    Whole,
    /// The status only.
    Status,
    /// Exactly what the server itself changes for a subresource such as `binding`.
    Server,
}

impl Part {
    fn of(subresource: &str) -> Self {
        if subresource == "status" { Self::Status } else { Self::Whole }
    }
}

impl Shared {
    pub(super) fn rules(&self, info: &ResourceInfo) -> ApiResult<KindRules> {
        let schema = self.registry.schema(info);
        let schema = schema.ok_or_else(|| ApiError::internal(format!("{} has no schema", info.kind)))?;
        Ok(KindRules { schema, strategy: strategy_for(&info.group, &info.kind) })
    }

    pub(super) async fn create(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        request: ApiRequest,
    ) -> ApiResult<ApiResponse> {
        let ApiRequest { target, options, body, fence, duplicates, .. } = request;
        let RequestBody::Doc(doc) = body else { return Err(ApiError::bad_request("create: the body must be an object")) };
        let rules = self.rules(info)?;
        let (doc, warnings) = decode(info, &rules, doc, &options, duplicates)?;
        let generates = doc.str_at(&["metadata", "name"]).is_empty() && !doc.str_at(&["metadata", "generateName"]).is_empty();
        for attempt in 1.. {
            let mut doc = doc.clone();
            let target = self.new_object(info, &target, &mut doc)?;
            self.admit_create(caller, info, &rules, &target, &options, &mut doc).await?;
            let manager = self.manager(caller, info, &options, Operation::Update, "");
            apply::track_update(None, &mut doc, &rules.schema, &manager);
            if options.dry_run {
                return answer(201, ResponseBody::Doc(doc), warnings);
            }
            match self.commit_created(info, &target, &mut doc, fence.as_ref()).await {
                Ok(object) => return answer(201, ResponseBody::Object(object), warnings),
                Err(Refused::Changed) if generates && attempt < NAME_ATTEMPTS => {}
                Err(Refused::Changed) => return Err(ApiError::already_exists(&info.plural, &info.group, &target.name)),
                Err(Refused::Taken(what)) => return Err(ApiError::conflict(&info.plural, &info.group, &target.name, what)),
                Err(Refused::Error(error)) => return Err(error),
            }
        }
        Err(ApiError::internal("no name could be generated"))
    }

    /// Allocations are taken in the same transaction; another is tried when somebody else took one.
    async fn commit_created(
        &self,
        info: &ResourceInfo,
        target: &Target,
        doc: &mut Doc,
        fence: Option<&k8s_core::request::Fence>,
    ) -> Result<Arc<Object>, Refused> {
        let asked = doc.clone();
        let mut round = 0;
        loop {
            let extra = self.service_network.allocate(info, None, doc, &self.env, &*self.store, round).await?;
            let key = info.storage_key(&target.namespace, &target.name);
            match self.commit(Write { info, key, old: None, doc: Some(doc), fence, extra }).await {
                Err(Refused::Taken(key)) => {
                    self.service_network.refuse_if_asked_for(info, &asked, &key)?;
                    round += 1;
                    *doc = asked.clone();
                }
                outcome => return outcome,
            }
        }
    }

    /// Fills in what the server decides about a new object; answers its full target.
    fn new_object(&self, info: &ResourceInfo, target: &Target, doc: &mut Doc) -> ApiResult<Target> {
        let mut target = target.clone();
        if info.is_namespaced() {
            if target.namespace.is_empty() {
                target.namespace = doc.str_at(&["metadata", "namespace"]).into();
            }
            set_namespace(doc, &target.namespace)?;
        } else {
            doc.remove_at(&["metadata", "namespace"]);
        }
        let base = doc.str_at(&["metadata", "generateName"]).to_owned();
        if doc.str_at(&["metadata", "name"]).is_empty() && !base.is_empty() {
            let base: String = base.chars().take(MAX_GENERATED_BASE).collect();
            let name = format!("{base}{}", self.env.name_suffix(5));
            doc.set_at(&["metadata", "name"], Doc::String(name.into()));
        }
        target.name = doc.str_at(&["metadata", "name"]).into();
        if target.name.is_empty() {
            let required = k8s_core::status::FieldError::required("metadata.name", "name or generateName is required");
            return Err(ApiError::invalid(&info.kind, &info.group, "", &[required]));
        }
        for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"] {
            doc.remove_at(&["metadata", field]);
        }
        doc.set_at(&["metadata", "uid"], Doc::String(self.env.uuid().into()));
        doc.set_at(&["metadata", "creationTimestamp"], Doc::String(seconds(self.env.now()).into()));
        Ok(target)
    }

    async fn admit_create(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        rules: &KindRules,
        target: &Target,
        options: &Options,
        doc: &mut Doc,
    ) -> ApiResult<()> {
        let request =
            AdmissionRequest { caller, verb: Verb::Create, info, target, options, old: None, reads: &self.reads };
        rules.strategy.prepare_create(doc);
        for plugin in &self.admission {
            plugin.mutate(&request, doc).await?;
        }
        defaulting::default(&rules.schema, doc);
        let mut errors = structure::validate_fields(&rules.schema, doc, None);
        errors.extend(rules.strategy.validate_create(doc));
        if !errors.is_empty() {
            return Err(ApiError::invalid(&info.kind, &info.group, &target.name, &errors));
        }
        self.may_grant(caller, info, &target.namespace, doc, None)?;
        for plugin in &self.admission {
            plugin.validate(&request, Some(doc)).await?;
        }
        Ok(())
    }

    /// Who makes or changes an object, as managed fields name it.
    pub(super) fn manager(
        &self,
        caller: &Caller,
        info: &ResourceInfo,
        options: &Options,
        operation: Operation,
        subresource: &str,
    ) -> Manager {
        let agent = || Text::from(caller.agent.split('/').next().unwrap_or(""));
        let named = options.field_manager.clone().unwrap_or_else(agent);
        let name = if named.is_empty() { caller.name.clone() } else { named };
        Manager {
            name: name.to_string(),
            operation,
            api_version: info.api_version(),
            subresource: subresource.to_owned(),
            time: self.env.now(),
        }
    }

    pub(super) async fn update(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        request: ApiRequest,
    ) -> ApiResult<ApiResponse> {
        let RequestBody::Doc(doc) = request.body.clone() else {
            return Err(ApiError::bad_request("update: the body must be an object"));
        };
        let rules = self.rules(info)?;
        let (doc, warnings) = decode(info, &rules, doc, &request.options, request.duplicates.clone())?;
        let name = doc.str_at(&["metadata", "name"]);
        if name != request.target.name {
            let why = format!("the name of the object ({name}) does not match the name on the URL ({})", request.target.name);
            return Err(ApiError::bad_request(why));
        }
        let stated = stated_version(&doc)?;
        if stated.is_none() && !rules.strategy.allows_unconditional_update() {
            let required = k8s_core::status::FieldError::new(
                k8s_core::status::FieldErrorKind::Invalid,
                "metadata.resourceVersion",
                "0x0",
                "must be specified for an update",
            );
            return Err(ApiError::invalid(&info.kind, &info.group, &request.target.name, &[required]));
        }
        let part = Part::of(&request.target.subresource);
        let change = Change { caller, info, rules: &rules, request: &request, stated, part };
        self.change(change, warnings, |_, _| Ok(doc.clone())).await
    }

    pub(super) async fn patch(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        mut request: ApiRequest,
    ) -> ApiResult<ApiResponse> {
        let RequestBody::Patch(kind, patch) = std::mem::take(&mut request.body) else {
            return Err(ApiError::bad_request("patch: the body must be a patch"));
        };
        let rules = self.rules(info)?;
        if kind == PatchKind::Apply {
            return self.apply(caller, info, &rules, request, patch).await;
        }
        let warnings = parking_lot::Mutex::new(Vec::new());
        let part = Part::of(&request.target.subresource);
        let change = Change { caller, info, rules: &rules, request: &request, stated: None, part };
        let answer = self
            .change(change, Vec::new(), |old, current| {
                // Patches are written against what is served, which has its revision.
                let mut served = current.clone();
                served.set_at(&["metadata", "resourceVersion"], Doc::String(old.revision().to_string().into()));
                let patched = patch::apply(kind, &patch, &served, Some(&rules.schema))?;
                let (doc, found) = decode(info, &rules, patched, &request.options, request.duplicates.clone())?;
                *warnings.lock() = found;
                Ok(doc)
            })
            .await?;
        Ok(ApiResponse { warnings: warnings.into_inner(), ..answer })
    }

    async fn apply(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        rules: &KindRules,
        request: ApiRequest,
        mut configuration: Doc,
    ) -> ApiResult<ApiResponse> {
        if request.options.field_manager.as_ref().is_none_or(|name| name.is_empty()) {
            let why = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
            return Err(ApiError::new(422, k8s_core::status::Reason::Invalid, why));
        }
        let warnings = check_fields(info, rules, &mut configuration, &request.options, request.duplicates.clone(), Mode::Partial)?;
        set_type(info, &mut configuration)?;
        let manager = self.manager(caller, info, &request.options, Operation::Apply, &request.target.subresource);
        self.cache.wait_for_head().await?;
        if self.cached(info, &request.target).is_none() && request.target.subresource.is_empty() {
            return self.apply_new(caller, info, rules, request, configuration, &manager, warnings).await;
        }
        let force = request.options.force;
        let stated = stated_version(&configuration)?;
        let part = Part::of(&request.target.subresource);
        let change = Change { caller, info, rules, request: &request, stated, part };
        self.change(change, warnings, |_, current| {
            apply::apply_configuration(Some(current), &configuration, &rules.schema, &manager, force)
        })
        .await
    }

    #[allow(clippy::too_many_arguments)] // One caller, above; the parts are already named there.
    async fn apply_new(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        rules: &KindRules,
        request: ApiRequest,
        mut configuration: Doc,
        manager: &Manager,
        warnings: Vec<String>,
    ) -> ApiResult<ApiResponse> {
        if !configuration.str_at(&["metadata", "uid"]).is_empty() {
            let why = "uid mismatch: the provided object specified uid, and no existing object was found";
            return Err(ApiError::conflict(&info.plural, &info.group, &request.target.name, why));
        }
        configuration.set_at(&["metadata", "name"], Doc::String(request.target.name.as_str().into()));
        let mut doc = apply::apply_configuration(None, &configuration, &rules.schema, manager, request.options.force)?;
        let managed = doc.at(&["metadata", "managedFields"]).cloned();
        let collection = Target { name: Text::default(), ..request.target.clone() };
        structure::check(&rules.schema, &mut doc, Mode::Whole);
        defaulting::default(&rules.schema, &mut doc);
        let target = self.new_object(info, &collection, &mut doc)?;
        if let Some(managed) = managed {
            doc.set_at(&["metadata", "managedFields"], managed);
        }
        self.admit_create(caller, info, rules, &target, &request.options, &mut doc).await?;
        if request.options.dry_run {
            return answer(201, ResponseBody::Doc(doc), warnings);
        }
        match self.commit_created(info, &target, &mut doc, request.fence.as_ref()).await {
            Ok(object) => answer(201, ResponseBody::Object(object), warnings),
            Err(Refused::Error(error)) => Err(error),
            // Somebody created it meanwhile: the client's retry applies to that one.
            Err(_) => Err(ApiError::modified(&info.plural, &info.group, &target.name)),
        }
    }

    /// Changes an object by `make`, again and again until nobody else wrote in between.
    pub(super) async fn change(
        &self,
        change: Change<'_>,
        warnings: Vec<String>,
        make: impl Fn(&Arc<Object>, &Doc) -> ApiResult<Doc>,
    ) -> ApiResult<ApiResponse> {
        let Change { info, request, stated, .. } = &change;
        let target = &request.target;
        let key = info.storage_key(&target.namespace, &target.name);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 || self.cached(info, target).is_none_or(|old| stated.is_some_and(|v| v != old.revision())) {
                self.cache.wait_for_head().await?;
            }
            let old = self.cached(info, target);
            let old = old.ok_or_else(|| ApiError::not_found(&info.plural, &info.group, &target.name))?;
            let current = parse(&old)?;
            let mut made = make(&old, &current)?;
            let stated = stated.or(stated_version(&made)?.filter(|version| *version != old.revision()));
            if stated.is_some_and(|version| version != old.revision()) {
                return Err(ApiError::modified(&info.plural, &info.group, &target.name));
            }
            if let Some(unchanged) = self.finish_change(&change, &old, &current, &mut made).await? {
                return answer(200, unchanged, warnings);
            }
            let extra = self.service_network.allocate(info, Some(&current), &mut made, &self.env, &*self.store, attempt).await;
            let extra = extra.map_err(|refused| refused_error(info, target, refused))?;
            let doomed = is_released(&old, &made);
            let write = Write {
                info,
                key: key.clone(),
                old: Some(&old),
                doc: (!doomed).then_some(&mut made),
                fence: request.fence.as_ref(),
                extra,
            };
            match self.commit(write).await {
                Ok(object) => return answer(200, ResponseBody::Object(object), warnings),
                Err(Refused::Changed | Refused::Taken(_)) => {}
                Err(Refused::Error(error)) => return Err(error),
            }
        }
        Err(ApiError::modified(&info.plural, &info.group, &target.name))
    }

    /// Brings a changed document into its final form; answers early for dry runs and changes that change nothing.
    async fn finish_change(
        &self,
        change: &Change<'_>,
        old: &Arc<Object>,
        current: &Doc,
        made: &mut Doc,
    ) -> ApiResult<Option<ResponseBody>> {
        let Change { caller, info, rules, request, part, .. } = change;
        keep_identity(current, made);
        structure::check(&rules.schema, made, Mode::Whole);
        defaulting::default(&rules.schema, made);
        match *part {
            Part::Whole => rules.strategy.prepare_update(made, current),
            Part::Status => rules.strategy.prepare_status(made, current),
            Part::Server => {}
        }
        let admission = AdmissionRequest {
            caller,
            verb: Verb::Update,
            info,
            target: &request.target,
            options: &request.options,
            old: Some(old),
            reads: &self.reads,
        };
        for plugin in &self.admission {
            plugin.mutate(&admission, made).await?;
        }
        let mut errors = structure::validate_fields(&rules.schema, made, Some(current));
        errors.extend(match *part {
            Part::Whole => rules.strategy.validate_update(made, current),
            Part::Status => rules.strategy.validate_status(made, current),
            Part::Server => Vec::new(),
        });
        if !errors.is_empty() {
            return Err(ApiError::invalid(&info.kind, &info.group, &request.target.name, &errors));
        }
        self.may_grant(caller, info, &request.target.namespace, made, Some(current))?;
        for plugin in &self.admission {
            plugin.validate(&admission, Some(made)).await?;
        }
        let applies = matches!(&request.body, RequestBody::None) && request.options.field_manager.is_some() && is_applied(current, made);
        if !applies {
            let subresource = &request.target.subresource;
            let manager = self.manager(caller, info, &request.options, Operation::Update, subresource);
            apply::track_update(Some(current), made, &rules.schema, &manager);
        }
        made.remove_at(&["metadata", "resourceVersion"]);
        if made == current {
            return Ok(Some(ResponseBody::Object(old.clone())));
        }
        if request.options.dry_run {
            made.set_at(&["metadata", "resourceVersion"], Doc::String(old.revision().to_string().into()));
            return Ok(Some(ResponseBody::Doc(std::mem::take(made))));
        }
        Ok(None)
    }
}

/// A change of one object.
pub(super) struct Change<'a> {
    pub caller: &'a Caller,
    pub info: &'a Arc<ResourceInfo>,
    pub rules: &'a KindRules,
    pub request: &'a ApiRequest,
    /// The revision that the client saw, if it said.
    pub stated: Option<u64>,
    /// What may change.
    pub part: Part,
}

/// Whether server-side apply made this document: it has tracked the fields already.
fn is_applied(current: &Doc, made: &Doc) -> bool {
    let managed = |doc: &Doc| doc.at(&["metadata", "managedFields"]).cloned();
    managed(current) != managed(made)
}

pub(super) fn refused_error(info: &ResourceInfo, target: &Target, refused: Refused) -> ApiError {
    match refused {
        Refused::Changed => ApiError::modified(&info.plural, &info.group, &target.name),
        Refused::Taken(what) => ApiError::conflict(&info.plural, &info.group, &target.name, what),
        Refused::Error(error) => error,
    }
}

pub(super) fn answer(code: u16, body: ResponseBody, warnings: Vec<String>) -> ApiResult<ApiResponse> {
    Ok(ApiResponse { code, warnings, body })
}

/// The document of a stored object.
pub(super) fn parse(object: &Object) -> ApiResult<Doc> {
    Doc::parse(object.stored_json()).map_err(|why| ApiError::internal(format!("stored object: {why}")))
}

/// A time as metadata has it.
pub(super) fn seconds(time: k8s_core::env::Timestamp) -> String {
    let whole = k8s_core::env::Timestamp::from_second(time.as_second());
    whole.map_or_else(|_| time.to_string(), |whole| whole.to_string())
}

/// Type, structure and defaults of what a client sent.
fn decode(
    info: &ResourceInfo,
    rules: &KindRules,
    mut doc: Doc,
    options: &Options,
    duplicates: Vec<String>,
) -> ApiResult<(Doc, Vec<String>)> {
    set_type(info, &mut doc)?;
    let warnings = check_fields(info, rules, &mut doc, options, duplicates, Mode::Whole)?;
    defaulting::default(&rules.schema, &mut doc);
    Ok((doc, warnings))
}

fn set_type(info: &ResourceInfo, doc: &mut Doc) -> ApiResult<()> {
    if doc.as_object().is_none() {
        return Err(ApiError::bad_request("the body must be an object"));
    }
    for (field, wanted) in [("apiVersion", info.api_version()), ("kind", info.kind.to_string())] {
        let given = doc.str_at(&[field]);
        if given.is_empty() {
            doc.set_at(&[field], Doc::String(wanted.into()));
        } else if given != wanted {
            let message = format!("the {field} in the data ({given}) does not match the expected {field} ({wanted})");
            return Err(ApiError::bad_request(message));
        }
    }
    Ok(())
}

/// Unknown and duplicate fields as the client wants them handled; wrong types are always refused.
fn check_fields(
    info: &ResourceInfo,
    rules: &KindRules,
    doc: &mut Doc,
    options: &Options,
    duplicates: Vec<String>,
    mode: Mode,
) -> ApiResult<Vec<String>> {
    let report = structure::check(&rules.schema, doc, mode);
    if let Some(wrong) = report.wrong.first() {
        return Err(wrong.to_api_error(&info.version, &info.kind));
    }
    let found: Vec<String> = duplicates.into_iter().chain(report.unknown_messages()).collect();
    match options.field_validation {
        FieldValidation::Strict if !found.is_empty() => {
            Err(ApiError::bad_request(format!("strict decoding error: {}", found.join(", "))))
        }
        FieldValidation::Warn => Ok(found),
        _ => Ok(Vec::new()),
    }
}

fn set_namespace(doc: &mut Doc, namespace: &str) -> ApiResult<()> {
    let given = doc.str_at(&["metadata", "namespace"]);
    if given.is_empty() {
        doc.set_at(&["metadata", "namespace"], Doc::String(namespace.into()));
    } else if given != namespace {
        return Err(ApiError::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
    }
    Ok(())
}

fn stated_version(doc: &Doc) -> ApiResult<Option<u64>> {
    match doc.str_at(&["metadata", "resourceVersion"]) {
        "" | "0" => Ok(None),
        text => text.parse().map(Some).map_err(|_| ApiError::bad_request(format!("metadata.resourceVersion {text:?} is no revision of this server"))),
    }
}

/// What an update cannot change and a client need not repeat.
fn keep_identity(current: &Doc, made: &mut Doc) {
    for field in ["uid", "creationTimestamp", "namespace", "selfLink", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let path = ["metadata", field];
        let stated_other = field == "uid" && !made.str_at(&path).is_empty();
        match current.at(&path) {
            // Another uid is refused by validation, not overwritten.
            Some(_) if stated_other => {}
            Some(value) => made.set_at(&path, value.clone()),
            None => drop(made.remove_at(&path)),
        }
    }
}

/// Whether this write takes the last finalizer off an object whose deletion waits only for that.
fn is_released(old: &Object, made: &Doc) -> bool {
    let left = made.at(&["metadata", "finalizers"]).map(Doc::items).unwrap_or_default();
    let spec_left = made.at(&["spec", "finalizers"]).map(Doc::items).unwrap_or_default();
    let is_namespace = old.meta.kind == "Namespace";
    let waits = if is_namespace { !spec_left.is_empty() } else { false };
    let grace = made.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Doc::as_i64).unwrap_or(0);
    let had = !old.meta.finalizers.is_empty() || is_namespace;
    old.meta.deleted.is_some() && left.is_empty() && !waits && had && grace == 0
}
