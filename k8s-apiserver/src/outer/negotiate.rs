//! Which form an answer takes: the `Accept` header against what is offered.
//!
//! Offered are JSON, YAML and CBOR, each as the object itself, as a `Table`, or as metadata alone, and protobuf as the object
//! itself (of built-in kinds) or as metadata alone. What is not offered is passed over: a client that also accepts JSON
//! gets JSON.

use http::{HeaderMap, header};
use k8s_core::status::{ApiError, ApiResult};

/// The bytes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
    /// `application/cbor`.
    Cbor,
}

impl Encoding {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::Cbor => "application/cbor",
        }
    }

    /// The media type of a watch. There is none in YAML.
    pub fn watch_media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            Self::Cbor => "application/cbor-seq",
            other => other.media_type(),
        }
    }
}

/// What may be asked for of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Everything.
    BuiltIn,
    /// Everything but the object itself in protobuf: a custom kind has no numbers.
    Custom,
}

/// What an object is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Itself.
    Whole,
    /// A `Table` with the columns that people see.
    Table,
    /// `PartialObjectMetadata`, or the list of it.
    Metadata,
}

/// The form that an answer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// As which bytes.
    pub encoding: Encoding,
    /// As which kind.
    pub shape: Shape,
}

impl Form {
    /// The object itself as JSON.
    pub const JSON: Self = Self { encoding: Encoding::Json, shape: Shape::Whole };
}

/// What the `Accept` headers of a request say, best first.
pub struct Accepted<'a>(Vec<Clause<'a>>);

/// One media range with its parameters.
struct Clause<'a> {
    range: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// `q` in thousandths.
    quality: u16,
}

impl<'a> Accepted<'a> {
    /// Reads the headers. No header, or an empty one, accepts anything.
    pub fn read(headers: &'a HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut clauses: Vec<Clause<'a>> =
            values.flat_map(|value| value.split(',')).map(Clause::read).filter(|c| !c.range.is_empty()).collect();
        if clauses.is_empty() {
            clauses.push(Clause { range: "*/*", parameters: Vec::new(), quality: 1000 });
        }
        clauses.retain(|clause| clause.quality > 0);
        // Stable: of equals, the first stays first.
        clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
        Self(clauses)
    }

    /// The form of an answer about resources; 406 names what is offered.
    pub fn resource_form(&self, offer: Offer) -> ApiResult<Form> {
        let form = self.0.iter().find_map(|clause| clause.resource_form(offer));
        form.ok_or_else(|| ApiError::not_acceptable(RESOURCE_TYPES))
    }

    /// How a document is shown that has no other shape: JSON, or protobuf where it comes first; 406 else.
    pub fn document_encoding(&self) -> ApiResult<Encoding> {
        let plain = self.0.iter().filter(|clause| clause.get("as").is_none()).filter_map(Clause::encoding);
        let found = plain.into_iter().find(|encoding| matches!(encoding, Encoding::Json | Encoding::Protobuf));
        found.ok_or_else(|| ApiError::not_acceptable("application/json, application/vnd.kubernetes.protobuf"))
    }

    /// How a failure is told: in protobuf or CBOR to who likes that best, else in JSON, which every client reads.
    pub fn failure_encoding(&self) -> Encoding {
        let best = self.0.iter().find_map(Clause::encoding);
        best.filter(|encoding| *encoding != Encoding::Yaml).unwrap_or(Encoding::Json)
    }

    /// Whether plain JSON is accepted; 406 else.
    pub fn json(&self) -> ApiResult<()> {
        let offered =
            self.0.iter().any(|clause| clause.encoding() == Some(Encoding::Json) && clause.get("as").is_none());
        if offered { Ok(()) } else { Err(ApiError::not_acceptable(Encoding::Json.media_type())) }
    }

    /// The first of `offered` (an `as` value, its group and versions) that is asked for before plain JSON is.
    pub fn conversion<'o>(&self, offered: &'o [Conversion]) -> Option<&'o Conversion> {
        for clause in &self.0 {
            if clause.encoding() != Some(Encoding::Json) {
                continue;
            }
            match clause.get("as") {
                None => return None,
                Some(kind) => {
                    let fits = |c: &&Conversion| {
                        c.kind == kind && clause.get("g") == Some(c.group) && clause.get("v") == Some(c.version)
                    };
                    if let Some(found) = offered.iter().find(fits) {
                        return Some(found);
                    }
                }
            }
        }
        None
    }
}

/// Another kind that an answer can be converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    /// `as`.
    pub kind: &'static str,
    /// `g`.
    pub group: &'static str,
    /// `v`.
    pub version: &'static str,
}

const RESOURCE_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf, application/cbor, \
                              application/json;as=Table;v=v1;g=meta.k8s.io, \
                              application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";

impl<'a> Clause<'a> {
    fn read(text: &'a str) -> Self {
        let mut pieces = text.split(';').map(str::trim);
        let range = pieces.next().unwrap_or("");
        let mut clause = Self { range, parameters: Vec::new(), quality: 1000 };
        for (name, value) in pieces.filter_map(|piece| piece.split_once('=')) {
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name == "q" {
                clause.quality = value.parse::<f32>().map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16);
            } else {
                clause.parameters.push((name, value));
            }
        }
        clause
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    fn encoding(&self) -> Option<Encoding> {
        match self.range {
            "application/json" | "application/*" | "*/*" => Some(Encoding::Json),
            "application/yaml" | "text/yaml" | "application/x-yaml" => Some(Encoding::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Encoding::Protobuf),
            "application/cbor" | "application/cbor-seq" => Some(Encoding::Cbor),
            _ => None,
        }
    }

    fn resource_form(&self, offer: Offer) -> Option<Form> {
        let encoding = self.encoding()?;
        let of_meta = self.get("g") == Some("meta.k8s.io") && matches!(self.get("v"), Some("v1" | "v1beta1"));
        let shape = match self.get("as") {
            None => Shape::Whole,
            Some("Table") if of_meta => Shape::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if of_meta => Shape::Metadata,
            Some(_) => return None,
        };
        let is_offered = encoding != Encoding::Protobuf
            || match shape {
                Shape::Whole => offer == Offer::BuiltIn,
                Shape::Metadata => true,
                // Cells are of any type, which protobuf cannot say.
                Shape::Table => false,
            };
        is_offered.then_some(Form { encoding, shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Accepted::read(&headers).resource_form(Offer::BuiltIn).ok()
    }

    #[test]
    fn the_best_clause_that_is_offered_counts() {
        const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let json = |shape| Some(Form { encoding: Encoding::Json, shape });
        let yaml = |shape| Some(Form { encoding: Encoding::Yaml, shape });
        let protobuf = |shape| Some(Form { encoding: Encoding::Protobuf, shape });
        let cases = [
            ("application/json", json(Shape::Whole)),
            ("*/*", json(Shape::Whole)),
            ("", json(Shape::Whole)),
            ("application/yaml", yaml(Shape::Whole)),
            ("application/vnd.kubernetes.protobuf,application/json", protobuf(Shape::Whole)),
            ("application/vnd.kubernetes.protobuf;q=0.5,application/json", json(Shape::Whole)),
            ("application/vnd.kubernetes.protobuf;stream=watch", protobuf(Shape::Whole)),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                protobuf(Shape::Metadata),
            ),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", None),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json", json(Shape::Whole)),
            ("application/xml,application/vnd.kubernetes.protobuf", protobuf(Shape::Whole)),
            ("application/cbor, application/json", Some(Form { encoding: Encoding::Cbor, shape: Shape::Whole })),
            (
                "application/cbor;as=Table;g=meta.k8s.io;v=v1",
                Some(Form { encoding: Encoding::Cbor, shape: Shape::Table }),
            ),
            ("text/plain", None),
            (KUBECTL, json(Shape::Table)),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", json(Shape::Metadata)),
            ("application/json;as=Table;g=meta.k8s.io;v=v7,application/json", json(Shape::Whole)),
            ("application/json;as=Table;g=meta.k8s.io;v=v7", None),
            ("application/json;as=Other;g=meta.k8s.io;v=v1", None),
            ("application/yaml;q=0.5, application/json;q=0.4", yaml(Shape::Whole)),
            ("application/yaml;q=0.5, application/json", json(Shape::Whole)),
            ("application/json;q=0", None),
        ];
        for (accept, expected) in cases {
            assert_eq!(form(accept), expected, "{accept}");
        }
    }

    #[test]
    fn custom_kinds_have_no_protobuf_but_their_metadata_has() {
        let form = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            Accepted::read(&headers).resource_form(Offer::Custom).ok()
        };
        const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(form("application/vnd.kubernetes.protobuf"), None);
        assert_eq!(form("application/vnd.kubernetes.protobuf,application/json"), Some(Form::JSON));
        let metadata = Form { encoding: Encoding::Protobuf, shape: Shape::Metadata };
        assert_eq!(form(&format!("{METADATA},application/json")), Some(metadata));
    }

    #[test]
    fn failures_are_told_in_what_the_client_likes_best() {
        let told = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            Accepted::read(&headers).failure_encoding()
        };
        let protobuf = "application/vnd.kubernetes.protobuf";
        assert_eq!(told(&format!("{protobuf},application/json")), Encoding::Protobuf);
        assert_eq!(told(&format!("application/json,{protobuf}")), Encoding::Json);
        assert_eq!(told("application/yaml"), Encoding::Json);
        assert_eq!(told("image/png"), Encoding::Json);
    }

    #[test]
    fn a_conversion_counts_only_before_plain_json() {
        const OFFERED: &[Conversion] =
            &[Conversion { kind: "APIGroupDiscoveryList", group: "apidiscovery.k8s.io", version: "v2" }];
        let asked = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let chosen = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            Accepted::read(&headers).conversion(OFFERED).is_some()
        };
        assert!(chosen(&format!("{asked},application/json")));
        assert!(!chosen(&format!("application/json,{asked}")));
        assert!(!chosen("application/json;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList"));
    }
}
