//! The newest watch events as they are sent, encoded once for all watchers of the same form.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use k8s_core::object::Object;
use parking_lot::Mutex;

use super::negotiate::Form;

/// How many lines are remembered. Watchers of one change ask for its line at almost the same time.
const MAX_FRAMES: usize = 32;
/// A longer line is not remembered, so that little memory is held: it is rare, and each watcher has its own.
const MAX_BYTES: usize = 256 * 1024;

/// The newest lines.
#[derive(Default)]
pub struct Frames(Mutex<VecDeque<Frame>>);

struct Frame {
    /// Held, so that no other object gets its address.
    object: Arc<Object>,
    word: &'static str,
    form: Form,
    line: Bytes,
}

impl Frames {
    /// The line that tells `word` of an object in a form, which must be one that looks the same to everybody; `write`
    /// makes it if nobody has.
    pub fn get(&self, object: &Arc<Object>, word: &'static str, form: Form, write: impl FnOnce() -> Bytes) -> Bytes {
        let is_it = |frame: &&Frame| Arc::ptr_eq(&frame.object, object) && frame.word == word && frame.form == form;
        if let Some(frame) = self.0.lock().iter().find(is_it) {
            return frame.line.clone();
        }
        let line = write();
        if line.len() <= MAX_BYTES {
            let frame = Frame { object: object.clone(), word, form, line: line.clone() };
            let mut frames = self.0.lock();
            frames.truncate(MAX_FRAMES - 1);
            frames.push_front(frame);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::negotiate::{Encoding, Shape},
        *,
    };

    fn object(revision: u64) -> Arc<Object> {
        let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#;
        Arc::new(Object::from_json(json.into(), Some(revision)).unwrap())
    }

    #[test]
    fn a_line_is_written_once_for_equal_askers() {
        let frames = Frames::default();
        let (one, two) = (object(1), object(2));
        let metadata = Form { shape: Shape::Metadata, ..Form::JSON };
        let protobuf = Form { encoding: Encoding::Protobuf, ..Form::JSON };
        let ask = |object: &Arc<Object>, word, form, line: &'static [u8]| {
            frames.get(object, word, form, || Bytes::from_static(line))
        };
        assert_eq!(ask(&one, "ADDED", Form::JSON, b"first"), "first");
        assert_eq!(ask(&one, "ADDED", Form::JSON, b"again"), "first");
        assert_eq!(ask(&one, "MODIFIED", Form::JSON, b"word"), "word");
        assert_eq!(ask(&one, "ADDED", metadata, b"shape"), "shape");
        assert_eq!(ask(&one, "ADDED", protobuf, b"bytes"), "bytes");
        assert_eq!(ask(&two, "ADDED", Form::JSON, b"object"), "object");
        for _ in 0..MAX_FRAMES {
            ask(&object(3), "ADDED", Form::JSON, b"other");
        }
        assert_eq!(ask(&one, "ADDED", Form::JSON, b"anew"), "anew", "the oldest lines go");
        assert_eq!(frames.0.lock().len(), MAX_FRAMES);
    }
}
