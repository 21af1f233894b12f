//! Whole answers in protobuf: enveloped objects and lists, and the frames of a watch.

use bytes::Bytes;
use k8s_core::{
    doc::{Doc, Text},
    object::Object,
    request::ObjectList,
    schema::{ArenaBuilder, Field, Schema, Schemas, Shape, StructDef},
    status::{ApiError, ApiResult, Status},
};

use super::{
    Fault, MAGIC,
    encode::Encoder,
    json::Json,
    wire::{put_bytes, put_head, put_number},
};

/// How many bytes of a list stand in one piece.
const PIECE_BYTES: usize = 64 * 1024;
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// What ends an envelope: `contentEncoding = 3` and `contentType = 4`, which are empty.
const ENVELOPE_END: [u8; 4] = [3 << 3 | 2, 0, 4 << 3 | 2, 0];

/// How the objects of one kind are written.
#[derive(Clone)]
pub struct Message {
    api_version: Text,
    kind: Text,
    schema: Schema,
}

impl Message {
    /// The objects of a built-in kind; `None` if it is none.
    pub fn builtin(schemas: &Schemas, api_version: &str, kind: &str) -> Option<Self> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let schema = schemas.schema(group, version, kind)?;
        Some(Self { api_version: api_version.into(), kind: kind.into(), schema })
    }

    /// How a document is written, by the kind that it names; `None` if that is not built in.
    pub fn of(schemas: &Schemas, doc: &Doc) -> Option<Self> {
        Self::builtin(schemas, doc.str_at(&["apiVersion"]), doc.str_at(&["kind"]))
    }

    /// `PartialObjectMetadata`: the metadata of any kind, custom ones too.
    pub fn metadata(schemas: &Schemas) -> Self {
        let mut arena = ArenaBuilder::new(Some(schemas.arena().clone()));
        let field = |shape| Field {
            name: "metadata".into(),
            node: shape,
            required: false,
            proto: 1,
            proto_inside: Box::default(),
        };
        let fields = schemas.id(OBJECT_META).map(|metadata| field(Shape::Struct(metadata).into()));
        let root = arena.add(StructDef { fields: fields.into_iter().collect(), ..StructDef::default() });
        let schema = Schema::new(arena.finish(), root);
        Self { api_version: "meta.k8s.io/v1".into(), kind: "PartialObjectMetadata".into(), schema }
    }

    /// An object in its envelope, from its JSON.
    pub fn object(&self, json: &[u8]) -> ApiResult<Vec<u8>> {
        let mut to = Encoder::default();
        to.out.reserve(json.len() + 64);
        begin_envelope(&mut to.out, &self.api_version, &self.kind);
        self.write(&mut to, json)?;
        to.out.extend_from_slice(&ENVELOPE_END);
        Ok(to.out)
    }

    /// A list in its envelope, in pieces: its length stands before it, so that all of it is written first.
    /// `write_json` appends an item's JSON.
    pub fn list(&self, list: &ObjectList, write_json: impl Fn(&Object, &mut Vec<u8>)) -> ApiResult<Vec<Bytes>> {
        let (mut to, mut json, mut pieces) = (Encoder::default(), Vec::new(), vec![Bytes::new()]);
        put_bytes(&mut to.out, 1, &list_meta(list));
        let mut length = 0;
        for item in &list.items {
            json.clear();
            write_json(item, &mut json);
            self.write(&mut to, &json)?;
            if to.out.len() >= PIECE_BYTES {
                length += to.out.len();
                pieces.push(std::mem::take(&mut to.out).into());
            }
        }
        length += to.out.len();
        to.out.extend_from_slice(&ENVELOPE_END);
        pieces.push(to.out.into());
        let mut head = Vec::new();
        begin_envelope(&mut head, &self.api_version, &format!("{}List", self.kind));
        put_head(&mut head, 2, length);
        pieces[0] = head.into();
        Ok(pieces)
    }

    /// Both an envelope and a list have what they hold as field 2.
    fn write(&self, to: &mut Encoder, json: &[u8]) -> ApiResult<()> {
        let broken = |why: Fault| ApiError::internal(format!("{} as protobuf: {why}", self.kind));
        let root = self.schema.root().as_struct().ok_or_else(|| ApiError::internal("a kind that is no object"))?;
        Json::new(json).and_then(|mut json| to.message(2, root, Some(&mut json))).map_err(broken)
    }
}

/// `magic, typeMeta = 1 { apiVersion = 1, kind = 2 }`; `raw = 2` follows.
fn begin_envelope(out: &mut Vec<u8>, api_version: &str, kind: &str) {
    let mut type_meta = Vec::with_capacity(api_version.len() + kind.len() + 4);
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    out.extend_from_slice(MAGIC);
    put_bytes(out, 1, &type_meta);
}

/// `selfLink = 1, resourceVersion = 2, continue = 3, remainingItemCount = 4`.
fn list_meta(list: &ObjectList) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, b"");
    put_bytes(&mut out, 2, list.revision.to_string().as_bytes());
    put_bytes(&mut out, 3, list.continue_token.as_deref().unwrap_or("").as_bytes());
    if let Some(remaining) = list.remaining {
        put_number(&mut out, 4, remaining);
    }
    out
}

/// A `Status` in its envelope.
pub fn status(schemas: &Schemas, status: &Status) -> ApiResult<Vec<u8>> {
    let message = Message::builtin(schemas, "v1", "Status");
    message.ok_or_else(|| ApiError::internal("Status has no schema"))?.object(&status.to_json())
}

/// A change as a frame of a watch: its length in four bytes, then `type = 1, object = 2 { raw = 1 }` with the object in
/// its envelope.
pub fn watch_frame(word: &str, object: &[u8]) -> Bytes {
    let mut head = Vec::with_capacity(32);
    put_head(&mut head, 1, object.len());
    let mut frame = Vec::with_capacity(object.len() + 64);
    frame.extend_from_slice(&[0; 4]);
    put_bytes(&mut frame, 1, word.as_bytes());
    put_head(&mut frame, 2, head.len() + object.len());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(object);
    // Invariant: an object is far below 4 GiB, and so is its frame.
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.into()
}
