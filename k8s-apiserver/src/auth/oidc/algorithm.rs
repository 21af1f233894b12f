//! The signing algorithms of tokens, as providers name them.

/// A signing algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it all")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

/// All that are known, by their names.
pub const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("ES512", Algorithm::Es512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
];

impl Algorithm {
    /// The algorithm of a name.
    pub(super) fn named(name: &str) -> Option<Self> {
        ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// The same for the library of tokens; `None` for what it does not know (`ES512`).
    pub(super) fn library(self) -> Option<jsonwebtoken::Algorithm> {
        use jsonwebtoken::Algorithm as Of;
        match self {
            Self::Rs256 => Some(Of::RS256),
            Self::Rs384 => Some(Of::RS384),
            Self::Rs512 => Some(Of::RS512),
            Self::Es256 => Some(Of::ES256),
            Self::Es384 => Some(Of::ES384),
            Self::Es512 => None,
            Self::Ps256 => Some(Of::PS256),
            Self::Ps384 => Some(Of::PS384),
            Self::Ps512 => Some(Of::PS512),
        }
    }
}
