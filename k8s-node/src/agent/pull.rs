//! Making the image of a container present, by its pull policy and with the credentials of its pod.

use std::{sync::Arc, time::Duration};

use k8s_core::{
    api::api::core::v1::{Pod, Secret},
    resource::Stored,
};

use super::{Shared, keyring::Keyring, perform::Trouble};
use crate::{
    image::Reference,
    plan::{Part, Severity},
    runtime::{ImageInfo, ImagePull, RuntimeError},
};

/// How many images of one node are pulled at once; further pulls wait for their turn.
pub(crate) const PULLS_AT_ONCE: usize = 4;

/// Makes the image present.
///
/// `Always` asks the registry each time what the name means now; layers that are present are not loaded again.
pub(crate) async fn ensure_image(
    shared: &Arc<Shared>,
    pod: &Stored<Pod>,
    part: &Part<'_>,
) -> Result<ImageInfo, Trouble> {
    let name = part.container.name.as_str();
    let image = part.container.image.as_deref().unwrap_or_default();
    let tell =
        |severity, reason, message: String| shared.events.tell(pod.object(), Some(name), severity, reason, message);
    let policy = part.container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    let found = shared.runtime.image_status(image).await.map_err(|error| invalid(&tell, image, &error))?;
    match (found, policy) {
        (Some(found), "IfNotPresent" | "Never") => {
            tell(Severity::Normal, "Pulled", format!("Container image {image:?} already present on machine"));
            return Ok(found);
        }
        (None, "Never") => {
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            tell(Severity::Warning, "ErrImageNeverPull", message.clone());
            return Err(Trouble::new("ErrImageNeverPull", message));
        }
        _ => {}
    }
    let credentials = credentials(shared, pod, image).await;
    tell(Severity::Normal, "Pulling", format!("Pulling image {image:?}"));
    let asked_at = shared.env.monotonic();
    // Invariant: nobody closes the semaphore; should it be closed, pulls go on without turns.
    let _turn = shared.pulls.acquire().await;
    let began_at = shared.env.monotonic();
    match shared.runtime.pull_image(ImagePull { reference: image.to_owned(), credentials }).await {
        Ok(pulled) => {
            let now = shared.env.monotonic();
            let (took, whole) = (human(now.saturating_sub(began_at)), human(now.saturating_sub(asked_at)));
            let size = pulled.size_bytes;
            let message = format!(
                "Successfully pulled image {image:?} in {took} ({whole} including waiting). Image size: {size} bytes."
            );
            tell(Severity::Normal, "Pulled", message);
            Ok(pulled)
        }
        Err(error) => {
            let message = match error {
                RuntimeError::ImageNotPresent { .. } => {
                    format!("image {image:?} is not present on this node; import it with `k8s image import FILE`")
                }
                other => other.to_string(),
            };
            tell(Severity::Warning, "Failed", format!("Failed to pull image {image:?}: {message}"));
            tell(Severity::Warning, "Failed", "Error: ErrImagePull".to_owned());
            Err(Trouble::new("ErrImagePull", message))
        }
    }
}

fn invalid(tell: &impl Fn(Severity, &'static str, String), image: &str, error: &RuntimeError) -> Trouble {
    let message = format!("Failed to apply default image tag {image:?}: {error}");
    tell(Severity::Warning, "InspectFailed", message.clone());
    Trouble::new("InvalidImageName", message)
}

/// The credentials of the pod's `imagePullSecrets` for an image. Secrets that cannot be read are told of and left out:
/// the image may be public.
async fn credentials(shared: &Arc<Shared>, pod: &Stored<Pod>, image: &str) -> Vec<(String, String)> {
    let Ok(reference) = image.parse::<Reference>() else { return vec![] };
    let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let secrets = shared.client.namespaced::<Secret>(pod.namespace());
    let (mut keyring, mut missing) = (Keyring::default(), vec![]);
    for name in names.map(|secret| secret.name.as_str()).filter(|name| !name.is_empty()) {
        let why = match secrets.find(name).await {
            Ok(Some(secret)) => keyring.add(&secret).err(),
            Ok(None) => Some("not found".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            tracing::warn!(?pod, secret = name, why, "an image pull secret cannot be used");
            missing.push(name);
        }
    }
    if !missing.is_empty() {
        let names = missing.join(", ");
        let message = format!(
            "Unable to retrieve some image pull secrets ({names}); attempting to pull the image may not succeed."
        );
        let reason = "FailedToRetrieveImagePullSecret";
        shared.events.tell(pod.object(), None, Severity::Warning, reason, message);
    }
    keyring.find(&reference)
}

/// A duration to the millisecond as upstream writes it: `35ms`, `1.2s`, `2m0.5s`.
fn human(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let fraction = format!("{}.{:03}", rest / 1000, rest % 1000);
    let seconds = fraction.trim_end_matches('0').trim_end_matches('.');
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_upstream_writes_them() {
        let cases = [
            (0, "0s"),
            (35, "35ms"),
            (1000, "1s"),
            (1200, "1.2s"),
            (1234, "1.234s"),
            (60_000, "1m0s"),
            (120_500, "2m0.5s"),
            (3_723_004, "1h2m3.004s"),
        ];
        for (millis, text) in cases {
            assert_eq!(human(Duration::from_millis(millis)), text);
        }
    }
}
