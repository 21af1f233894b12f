//! Taints and the tolerations that cover them.

use crate::api::api::core::v1::{Taint, Toleration};

/// Whether a toleration covers a taint: key, effect and value, where an empty key or effect stands for all.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or("");
    let key = toleration.key.as_deref().unwrap_or("");
    let value = toleration.value.as_deref().unwrap_or("");
    let same_effect = effect.is_empty() || effect == taint.effect;
    let same_key = key.is_empty() || key == taint.key;
    let holds = match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => !key.is_empty() && value == taint.value.as_deref().unwrap_or(""),
        _ => false,
    };
    same_effect && same_key && holds
}
