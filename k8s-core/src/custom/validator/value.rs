//! Rules about one value that has no parts: permitted values, ranges, lengths, patterns and formats.

use super::{Path, Rule, brief, shown};
use crate::{
    custom::format,
    doc::{Doc, Number},
    status::{FieldError, FieldErrorKind},
};

impl Rule {
    pub(super) fn value(&self, doc: &Doc, path: &Path<'_>, errors: &mut Vec<FieldError>) {
        if !self.allowed.is_empty() && !self.allowed.contains(doc) {
            let supported: Vec<String> = self.allowed.iter().map(Doc::to_string).collect();
            let detail = format!("supported values: {}", supported.join(", "));
            errors.push(FieldError::new(FieldErrorKind::NotSupported, shown(path), brief(doc), detail));
        }
        match doc {
            Doc::Number(number) => self.number(number, path, errors),
            Doc::String(text) => self.text(text, path, errors),
            _ => {}
        }
    }

    fn number(&self, number: &Number, path: &Path<'_>, errors: &mut Vec<FieldError>) {
        let value = number.as_f64();
        let mut broken = |what: String| {
            let detail = format!("{} in body {what}", shown(path));
            errors.push(FieldError::new(FieldErrorKind::Invalid, shown(path), number.to_string(), detail));
        };
        if let Some(max) = self.max.filter(|max| if self.exclusive_max { value >= *max } else { value > *max }) {
            let than = if self.exclusive_max { "less than" } else { "less than or equal to" };
            broken(format!("should be {than} {max}"));
        }
        if let Some(min) = self.min.filter(|min| if self.exclusive_min { value <= *min } else { value < *min }) {
            let than = if self.exclusive_min { "greater than" } else { "greater than or equal to" };
            broken(format!("should be {than} {min}"));
        }
        if let Some(unit) = self.multiple_of.filter(|unit| *unit != 0.0 && (value / unit).fract() != 0.0) {
            broken(format!("should be a multiple of {unit}"));
        }
        let out_of_range = match self.format.as_str() {
            "int32" => number.as_i64().is_none_or(|value| i32::try_from(value).is_err()),
            "int64" => number.as_i64().is_none() && value.abs() > i64::MAX as f64,
            "float" => value.abs() > f64::from(f32::MAX),
            _ => false,
        };
        if out_of_range {
            broken(format!("must be of type {}: {:?}", self.format, number.as_str()));
        }
    }

    fn text(&self, text: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
        let length = text.chars().count() as u64;
        if let Some(most) = self.max_length.filter(|most| length > *most) {
            let detail = format!("may not be more than {most} bytes");
            errors.push(FieldError::new(FieldErrorKind::TooLong, shown(path), "", detail));
        }
        let mut broken = |what: String| {
            let detail = format!("{} in body {what}", shown(path));
            errors.push(FieldError::new(FieldErrorKind::Invalid, shown(path), format!("{text:?}"), detail));
        };
        if let Some(least) = self.min_length.filter(|least| length < *least) {
            broken(format!("should be at least {least} chars long"));
        }
        if let Some((pattern, regex)) = &self.pattern
            && !regex.as_ref().is_some_and(|regex| regex.is_match(text))
        {
            broken(format!("should match '{pattern}'"));
        }
        if !format::fits(&self.format, text) {
            broken(format!("must be of type {}: {text:?}", self.format));
        }
    }
}
