//! Reading JSON once, forwards, without keeping it: what the writer of messages walks over.
//!
//! It reads what was written by this workspace or was parsed before; that it is well-formed is not checked again, but
//! nothing that is not does harm.

use std::borrow::Cow;

use super::Fault;

const BROKEN: Fault = Fault::Malformed("the JSON to be written as protobuf is broken");

/// A place in a JSON text.
pub struct Json<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Json<'a> {
    /// The beginning of a text.
    pub fn new(text: &'a [u8]) -> Result<Self, Fault> {
        std::str::from_utf8(text).map(|text| Self { text, at: 0 }).map_err(|_| BROKEN)
    }

    /// The byte that the next value begins with; 0 at the end.
    pub fn peek(&mut self) -> u8 {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
        self.byte().unwrap_or(0)
    }

    /// Steps into an object or a list, by its opening bracket.
    pub fn begin(&mut self, bracket: u8) -> Result<(), Fault> {
        if self.peek() != bracket {
            return Err(Fault::Malformed("a value is not of its field's type"));
        }
        self.at += 1;
        Ok(())
    }

    /// The name of the next field, whose value is read next; `None` behind the last.
    pub fn name(&mut self) -> Result<Option<Cow<'a, str>>, Fault> {
        if !self.item()? {
            return Ok(None);
        }
        let name = self.string()?;
        if self.peek() != b':' {
            return Err(BROKEN);
        }
        self.at += 1;
        Ok(Some(name))
    }

    /// Whether there is another item, which is read next.
    pub fn item(&mut self) -> Result<bool, Fault> {
        match self.peek() {
            b'}' | b']' => {
                self.at += 1;
                return Ok(false);
            }
            b',' => self.at += 1,
            0 => return Err(BROKEN),
            _ => {}
        }
        Ok(true)
    }

    /// Passes a `null`; whether there was one.
    pub fn null(&mut self) -> bool {
        let is_null = self.peek() == b'n';
        if is_null {
            self.at += self.word().len();
        }
        is_null
    }

    /// A string, borrowed unless it has escapes.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.begin(b'"')?;
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(BROKEN)?;
        if rest[plain] == b'"' {
            self.at = start + plain + 1;
            return Ok(Cow::Borrowed(&self.text[start..start + plain]));
        }
        self.at = self.string_end(start + plain)?;
        serde_json::from_str(&self.text[start - 1..self.at]).map(Cow::Owned).map_err(|_| BROKEN)
    }

    /// A number or a word, as it stands.
    pub fn scalar(&mut self) -> &'a str {
        self.peek();
        let word = self.word();
        self.at += word.len();
        word
    }

    /// Passes any value, and gives its text.
    pub fn skip(&mut self) -> Result<&'a str, Fault> {
        let first = self.peek();
        let start = self.at;
        match first {
            b'"' => self.at = self.string_end(start + 1)?,
            b'{' | b'[' => self.skip_nested()?,
            _ => return Some(self.scalar()).filter(|word| !word.is_empty()).ok_or(BROKEN),
        }
        Ok(&self.text[start..self.at])
    }

    fn skip_nested(&mut self) -> Result<(), Fault> {
        let mut depth = 0usize;
        loop {
            match self.byte().ok_or(BROKEN)? {
                b'"' => {
                    self.at = self.string_end(self.at + 1)?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            // Invariant: the first byte was a bracket, so the depth is above 0 until its end.
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Where the string ends that `at` is inside of, behind its quote.
    fn string_end(&self, mut at: usize) -> Result<usize, Fault> {
        loop {
            match self.text.as_bytes().get(at).ok_or(BROKEN)? {
                b'\\' => at += 2,
                b'"' => return Ok(at + 1),
                _ => at += 1,
            }
        }
    }

    fn word(&self) -> &'a str {
        let rest = &self.text[self.at..];
        let is_end = |c: char| matches!(c, ',' | '}' | ']' | ':' | '"' | '{' | '[') || c.is_ascii_whitespace();
        rest.find(is_end).map_or(rest, |end| &rest[..end])
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_passed() {
        let mut json = Json::new(br#" {"a\n" : "x\"y\\", "b":[1 , {"]":"}"}, null], "c": -1.5e3 } "#).unwrap();
        json.begin(b'{').unwrap();
        assert_eq!(json.name().unwrap().unwrap(), "a\n");
        assert_eq!(json.string().unwrap(), "x\"y\\");
        assert_eq!(json.name().unwrap().unwrap(), "b");
        json.begin(b'[').unwrap();
        assert!(json.item().unwrap());
        assert_eq!(json.scalar(), "1");
        assert!(json.item().unwrap() && !json.null());
        assert_eq!(json.skip().unwrap(), r#"{"]":"}"}"#);
        assert!(json.item().unwrap() && json.null() && !json.item().unwrap());
        assert_eq!(json.name().unwrap().unwrap(), "c");
        assert_eq!(json.skip().unwrap(), "-1.5e3");
        assert_eq!((json.name().unwrap(), json.peek()), (None, 0));
    }

    #[test]
    fn what_is_broken_does_no_harm() {
        let text = r#"{"a":"é\u00e9","b":[{"c":1},true]}"#.as_bytes();
        let mut broken = 0;
        for end in 0..text.len() {
            let Ok(mut json) = Json::new(&text[..end]) else { continue };
            broken += usize::from(json.skip().is_err());
            let Ok(mut json) = Json::new(&text[..end]) else { continue };
            let read = json.begin(b'{').and_then(|()| json.name()).and_then(|_| json.string());
            assert_eq!(read.is_ok(), end > r#"{"a":"é\u00e9"#.len(), "{end}");
        }
        assert!(broken > 20, "{broken}");
    }
}
