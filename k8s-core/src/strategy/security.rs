//! What a pod and its containers ask for of privileges.

use super::{list_at, named};
use crate::{
    doc::Doc,
    names,
    status::{FieldError, FieldErrorKind},
};

/// The security context of a pod's spec at `path`, and the namespaces of the machine that it wants.
pub(super) fn check_pod(errors: &mut Vec<FieldError>, spec: &Doc, path: &str) {
    let flag = |name: &str| spec.get(name).and_then(Doc::as_bool);
    if flag("shareProcessNamespace") == Some(true) && flag("hostPID") == Some(true) {
        let (place, detail) =
            (format!("{path}.shareProcessNamespace"), "ShareProcessNamespace and HostPID cannot both be enabled");
        errors.push(FieldError::new(FieldErrorKind::Invalid, place, "true", detail));
    }
    if flag("hostUsers") == Some(false) {
        for field in ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| flag(field) == Some(true)) {
            errors.push(FieldError::forbidden(format!("{path}.{field}"), "when `hostUsers` is false"));
        }
    }
    let place = format!("{path}.securityContext");
    if let Some(context) = spec.get("securityContext") {
        check_profiles(errors, context, &place);
        let groups = list_at(context, &["supplementalGroups"]);
        for (index, group) in groups.iter().enumerate().filter_map(|(index, group)| Some((index, group.as_i64()?))) {
            if !(0..=i64::from(i32::MAX)).contains(&group) {
                let (place, detail) =
                    (format!("{place}.supplementalGroups[{index}]"), "must be between 0 and 2147483647, inclusive");
                errors.push(FieldError::new(FieldErrorKind::Invalid, place, group.to_string(), detail));
            }
        }
    }
    if spec.str_at(&["os", "name"]) == "linux" && spec.at(&["securityContext", "windowsOptions"]).is_some() {
        let detail = "windows options cannot be set for a linux pod";
        errors.push(FieldError::forbidden(format!("{place}.windowsOptions"), detail));
    }
    for (index, secret) in list_at(spec, &["imagePullSecrets"]).iter().enumerate() {
        let name = secret.str_at(&["name"]);
        if !name.is_empty() {
            named(errors, &format!("{path}.imagePullSecrets[{index}].name"), name, names::dns_subdomain(name));
        }
    }
}

/// The security context of the container at `path`.
pub(super) fn check_container(errors: &mut Vec<FieldError>, container: &Doc, path: &str) {
    let Some(context) = container.get("securityContext") else { return };
    let place = format!("{path}.securityContext");
    let flag = |name: &str| context.get(name).and_then(Doc::as_bool);
    check_profiles(errors, context, &place);
    if flag("allowPrivilegeEscalation") != Some(false) {
        return;
    }
    if flag("privileged") == Some(true) {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.push(FieldError::new(FieldErrorKind::Invalid, &place, context.to_string(), detail));
    }
    if list_at(context, &["capabilities", "add"]).iter().any(|capability| capability.as_str() == Some("CAP_SYS_ADMIN"))
    {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.push(FieldError::new(FieldErrorKind::Invalid, place, context.to_string(), detail));
    }
}

/// A profile of the machine is named where, and only where, that is the kind of profile.
fn check_profiles(errors: &mut Vec<FieldError>, context: &Doc, path: &str) {
    for (field, what) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let Some(profile) = context.get(field).filter(|profile| !profile.is_null()) else { continue };
        let (local, place) = (profile.get("localhostProfile"), format!("{path}.{field}.localhostProfile"));
        let file = local.and_then(Doc::as_str).unwrap_or("");
        match (profile.str_at(&["type"]) == "Localhost", local.is_some_and(|local| !local.is_null())) {
            (true, false) => {
                errors.push(FieldError::required(place, format!("must be set when {what} type is Localhost")));
            }
            (false, true) => {
                let detail = format!("can only be set when {what} type is Localhost");
                errors.push(FieldError::invalid(place, file, detail));
            }
            (true, true) if file.starts_with('/') => {
                errors.push(FieldError::invalid(place, file, "must be a relative path"));
            }
            (true, true) if file.split('/').any(|step| step == "..") => {
                errors.push(FieldError::invalid(place, file, "must not contain '..'"));
            }
            _ => {}
        }
    }
}
