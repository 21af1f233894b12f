//! The lines of the newest watch events, encoded once for all watchers of the same form.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use k8s_core::object::Object;
use parking_lot::Mutex;

use super::negotiate::Shape;

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
    shape: Shape,
    line: Bytes,
}

impl Frames {
    /// The line that tells `word` of an object in a shape, which must be one that looks the same to everybody;
    /// `write` makes it if nobody has.
    pub fn get(&self, object: &Arc<Object>, word: &'static str, shape: Shape, write: impl FnOnce() -> Bytes) -> Bytes {
        let is_it = |frame: &&Frame| Arc::ptr_eq(&frame.object, object) && frame.word == word && frame.shape == shape;
        if let Some(frame) = self.0.lock().iter().find(is_it) {
            return frame.line.clone();
        }
        let line = write();
        if line.len() <= MAX_BYTES {
            let frame = Frame { object: object.clone(), word, shape, line: line.clone() };
            let mut frames = self.0.lock();
            frames.truncate(MAX_FRAMES - 1);
            frames.push_front(frame);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(revision: u64) -> Arc<Object> {
        let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#;
        Arc::new(Object::from_json(json.into(), Some(revision)).unwrap())
    }

    #[test]
    fn a_line_is_written_once_for_equal_askers() {
        let frames = Frames::default();
        let (one, two) = (object(1), object(2));
        let ask = |object: &Arc<Object>, word, shape, line: &'static [u8]| {
            frames.get(object, word, shape, || Bytes::from_static(line))
        };
        assert_eq!(ask(&one, "ADDED", Shape::Whole, b"first"), "first");
        assert_eq!(ask(&one, "ADDED", Shape::Whole, b"again"), "first");
        assert_eq!(ask(&one, "MODIFIED", Shape::Whole, b"word"), "word");
        assert_eq!(ask(&one, "ADDED", Shape::Metadata, b"shape"), "shape");
        assert_eq!(ask(&two, "ADDED", Shape::Whole, b"object"), "object");
        for _ in 0..MAX_FRAMES {
            ask(&object(3), "ADDED", Shape::Whole, b"other");
        }
        assert_eq!(ask(&one, "ADDED", Shape::Whole, b"anew"), "anew", "the oldest lines go");
        assert_eq!(frames.0.lock().len(), MAX_FRAMES);
    }
}
