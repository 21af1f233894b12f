//! Label selectors wherever they stand.

use crate::{
    api::apimachinery::pkg::apis::meta::v1 as meta,
    doc::Doc,
    selector::LabelSelector,
    status::{FieldError, FieldErrorKind},
};

/// The selector at `path`, if there is one that can be read; what is wrong with it goes to `errors`.
pub(super) fn check(errors: &mut Vec<FieldError>, selector: Option<&Doc>, path: &str) -> Option<LabelSelector> {
    let selector = selector.filter(|selector| !selector.is_null())?;
    let parsed = selector.deserialize::<meta::LabelSelector>().map_err(|why| why.to_string());
    let parsed = parsed.and_then(|selector| LabelSelector::try_from(&selector).map_err(|why| why.to_string()));
    match parsed {
        Ok(parsed) => Some(parsed),
        Err(why) => {
            errors.push(FieldError::new(FieldErrorKind::Invalid, path, selector.to_string(), why));
            None
        }
    }
}
