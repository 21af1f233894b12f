//! The media types of patches.

use crate::request::PatchKind;

impl PatchKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Json, Self::Merge, Self::Strategic, Self::Apply];

    /// The media type of its documents.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }

    /// The kind whose documents have this media type (without parameters).
    pub fn from_content_type(media_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.content_type().eq_ignore_ascii_case(media_type))
    }
}
