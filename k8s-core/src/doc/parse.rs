//! Strict, fast JSON parsing (RFC 8259), with positions in its errors and paths for its duplicates.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Doc, Map, Number, Text, map};

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 256;

/// How many duplicate keys are reported; more are dropped silently, as one is reason enough.
pub const MAX_DUPLICATES: usize = 100;

/// Why text is no JSON, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The column in bytes, from 1.
    pub column: usize,
    /// What was expected and what was there.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// An object's key that was written twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duplicate {
    /// The path of the field, such as `spec.containers[0].name`.
    pub path: String,
}

/// As upstream says it: `duplicate field "spec.x"`.
impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "duplicate field {:?}", self.path)
    }
}

pub(super) fn parse(json: &[u8], duplicates: Option<&mut Vec<Duplicate>>) -> Result<Doc, ParseError> {
    let text = match std::str::from_utf8(json) {
        Ok(text) => text,
        Err(bad) => return Err(Fault { at: bad.valid_up_to(), message: "invalid UTF-8".into() }.locate(json)),
    };
    let mut parser = Parser { text, bytes: json, at: 0, duplicates: Vec::new() };
    let doc = parser.document().map_err(|fault| fault.locate(json))?;
    if let Some(duplicates) = duplicates {
        let mut seen = BTreeSet::new();
        duplicates.extend(parser.duplicates.iter().map(|steps| render(steps)).filter(|d| seen.insert(d.clone())));
    }
    Ok(doc)
}

/// A step of a duplicate's path; collected from the inside out while the parser returns.
enum Step {
    Field(Text),
    Index(usize),
}

fn render(steps: &[Step]) -> Duplicate {
    let mut path = String::new();
    for step in steps.iter().rev() {
        match step {
            Step::Field(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Step::Index(place) => path.push_str(&format!("[{place}]")),
        }
    }
    Duplicate { path }
}

/// A fault and its offset; boxed in results, which stay small.
struct Fault {
    at: usize,
    message: String,
}

impl Fault {
    #[cold]
    fn locate(self, json: &[u8]) -> ParseError {
        let before = &json[..self.at.min(json.len())];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
        ParseError { line, column, message: self.message }
    }
}

/// An object in the making.
#[derive(Default)]
struct Fields {
    fields: Vec<(Text, Doc)>,
    /// Which keys there may be, so that most need not be searched for.
    seen: u64,
    /// The places of the keys, once there are many.
    index: Option<BTreeMap<Text, usize>>,
}

impl Fields {
    /// Settles whether the last field is a duplicate: then its value goes to the first one's place, and its key is
    /// returned.
    fn settle(&mut self) -> Option<Text> {
        let place = self.fields.len() - 1;
        let key = &self.fields[place].0;
        let bit = 1 << (mix(key.as_bytes()) & 63);
        let first = if self.seen & bit == 0 {
            None
        } else if let Some(index) = &self.index {
            index.get(key).copied()
        } else {
            self.fields[..place].iter().position(|(known, _)| known == key)
        };
        self.seen |= bit;
        if let Some(first) = first {
            let (key, value) = self.fields.pop()?;
            self.fields[first].1 = value;
            return Some(key);
        }
        if let Some(index) = &mut self.index {
            index.insert(key.clone(), place);
        } else if place >= map::LINEAR {
            self.index = Some(map::index(&self.fields));
        }
        None
    }
}

/// A cheap hash of a key.
fn mix(key: &[u8]) -> usize {
    match key {
        [] => 0,
        [first, .., last] => {
            usize::from(*first) * 5 + usize::from(*last) * 11 + usize::from(key[key.len() / 2]) * 23 + key.len()
        }
        [only] => usize::from(*only),
    }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    duplicates: Vec<Vec<Step>>,
}

/// Values are parsed into the place where they stay: moving them costs more than parsing them.
type Parsed = Result<(), Box<Fault>>;

impl Parser<'_> {
    fn document(&mut self) -> Result<Doc, Box<Fault>> {
        let mut doc = Doc::Null;
        self.space();
        self.value(&mut doc, 0)?;
        self.space();
        if self.at < self.bytes.len() { Err(self.expected("the end of the document")) } else { Ok(doc) }
    }

    fn value(&mut self, into: &mut Doc, depth: usize) -> Parsed {
        match self.bytes.get(self.at) {
            Some(b'"') => {
                self.at += 1;
                *into = Doc::String(Text::const_new(""));
                match into {
                    Doc::String(text) => self.string(text),
                    // Invariant: it was made a string just now.
                    _ => Ok(()),
                }
            }
            Some(b'{') => self.object(into, depth),
            Some(b'[') => self.array(into, depth),
            Some(b'-' | b'0'..=b'9') => self.number(into),
            Some(b't') => self.word("true", Doc::Bool(true), into),
            Some(b'f') => self.word("false", Doc::Bool(false), into),
            Some(b'n') => self.word("null", Doc::Null, into),
            _ => Err(self.expected("a value")),
        }
    }

    fn word(&mut self, word: &str, doc: Doc, into: &mut Doc) -> Parsed {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.expected(word));
        }
        self.at += word.len();
        *into = doc;
        Ok(())
    }

    fn number(&mut self, into: &mut Doc) -> Parsed {
        let end = number_end(self.bytes, self.at).map_err(|at| {
            self.at = at;
            self.expected("a digit")
        })?;
        *into = Doc::Number(Number::from_checked(&self.text[self.at..end]));
        self.at = end;
        Ok(())
    }

    fn array(&mut self, into: &mut Doc, depth: usize) -> Parsed {
        self.enter(depth)?;
        let mut items = Vec::new();
        if !self.skip(b']') {
            self.items(&mut items, depth)?;
        }
        *into = Doc::Array(items);
        Ok(())
    }

    fn items(&mut self, items: &mut Vec<Doc>, depth: usize) -> Parsed {
        loop {
            let (before, place) = (self.duplicates.len(), items.len());
            items.push(Doc::Null);
            self.value(&mut items[place], depth + 1)?;
            if self.duplicates.len() > before {
                self.extend_paths(before, || Step::Index(place));
            }
            if self.next(b']', "',' or ']'")? {
                return Ok(());
            }
        }
    }

    fn object(&mut self, into: &mut Doc, depth: usize) -> Parsed {
        self.enter(depth)?;
        let mut fields = Fields::default();
        if !self.skip(b'}') {
            self.fields(&mut fields, depth)?;
        }
        *into = Doc::Object(Map::from_unique(fields.fields, fields.index));
        Ok(())
    }

    fn fields(&mut self, to: &mut Fields, depth: usize) -> Parsed {
        loop {
            if self.bytes.get(self.at) != Some(&b'"') {
                return Err(self.expected("a field name in quotes"));
            }
            self.at += 1;
            let (before, place) = (self.duplicates.len(), to.fields.len());
            to.fields.push((Text::const_new(""), Doc::Null));
            let (key, value) = &mut to.fields[place];
            self.string(key)?;
            self.space();
            if self.bytes.get(self.at) != Some(&b':') {
                return Err(self.expected("':'"));
            }
            self.at += 1;
            self.space();
            self.value(value, depth + 1)?;
            if self.duplicates.len() > before {
                self.extend_paths(before, || Step::Field(key.clone()));
            }
            if let Some(key) = to.settle()
                && self.duplicates.len() < MAX_DUPLICATES
            {
                self.duplicates.push(vec![Step::Field(key)]);
            }
            if self.next(b'}', "',' or '}'")? {
                return Ok(());
            }
        }
    }

    /// Passes a comma (false) or the closing bracket (true), and the space around.
    fn next(&mut self, close: u8, expected: &str) -> Result<bool, Box<Fault>> {
        self.space();
        let closed = match self.bytes.get(self.at) {
            Some(b',') => false,
            Some(byte) if *byte == close => true,
            _ => return Err(self.expected(expected)),
        };
        self.at += 1;
        if !closed {
            self.space();
        }
        Ok(closed)
    }

    fn extend_paths(&mut self, from: usize, step: impl Fn() -> Step) {
        for path in &mut self.duplicates[from..] {
            path.push(step());
        }
    }

    /// Steps into an array or object: checks the depth, passes the bracket and space.
    fn enter(&mut self, depth: usize) -> Result<(), Box<Fault>> {
        if depth >= MAX_DEPTH {
            return Err(self.fault(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    fn skip(&mut self, byte: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The string whose opening quote was just passed.
    fn string(&mut self, into: &mut Text) -> Parsed {
        let start = self.at;
        self.at = plain_run(self.bytes, start);
        if self.bytes.get(self.at) == Some(&b'"') {
            *into = Text::new(&self.text[start..self.at]);
            self.at += 1;
            return Ok(());
        }
        let mut text = String::from(&self.text[start..self.at]);
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    *into = text.into();
                    return Ok(());
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return Err(self.fault("control character in a string; it must be escaped".into())),
                None => return Err(self.expected("'\"'")),
            }
            let run = self.at;
            self.at = plain_run(self.bytes, run);
            text.push_str(&self.text[run..self.at]);
        }
    }

    fn escape(&mut self) -> Result<char, Box<Fault>> {
        self.at += 1;
        let letter = match self.bytes.get(self.at) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.expected("one of \"\\/bfnrtu after the backslash")),
        };
        self.at += 1;
        Ok(letter)
    }

    fn unicode(&mut self) -> Result<char, Box<Fault>> {
        let start = self.at - 1;
        let first = self.unit()?;
        let code = if (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
            self.at += 1;
            let second = self.unit()?;
            if (0xdc00..0xe000).contains(&second) {
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            } else {
                first
            }
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| {
            self.at = start;
            self.fault("lone surrogate in a string".into())
        })
    }

    /// The four digits after `u`, at which the parser stands.
    fn unit(&mut self) -> Result<u32, Box<Fault>> {
        self.at += 1;
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.bytes.get(self.at).and_then(|&byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return Err(self.expected("four hexadecimal digits")) };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    #[cold]
    fn fault(&self, message: String) -> Box<Fault> {
        Box::new(Fault { at: self.at, message })
    }

    #[cold]
    fn expected(&self, what: &str) -> Box<Fault> {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some('\u{feff}') if self.at == 0 => "a byte order mark".into(),
            Some(letter) => format!("{letter:?}"),
            None => "the end".into(),
        };
        self.fault(format!("expected {what}, found {found}"))
    }
}

/// Where the number at `at` ends; `Err` is where a digit was missing.
pub(super) fn number_end(bytes: &[u8], mut at: usize) -> Result<usize, usize> {
    let digits = |mut at: usize| {
        while matches!(bytes.get(at), Some(b'0'..=b'9')) {
            at += 1;
        }
        at
    };
    let some_digits = |at: usize| Some(digits(at)).filter(|&end| end > at).ok_or(at);
    at += usize::from(bytes.get(at) == Some(&b'-'));
    at = if bytes.get(at) == Some(&b'0') { at + 1 } else { some_digits(at)? };
    if bytes.get(at) == Some(&b'.') {
        at = some_digits(at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        at = some_digits(at)?;
    }
    Ok(at)
}

/// Where the run of bytes ends that a string holds unescaped: at a quote, a backslash, a control byte or the end.
fn plain_run(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    while let Some(chunk) = bytes.get(at..at + 8).and_then(|chunk| <[u8; 8]>::try_from(chunk).ok()) {
        let word = u64::from_le_bytes(chunk);
        // A byte is zero, or below 0x20, exactly if the subtraction borrows from its high bit; the lowest such hit
        // is never a false one, and only the lowest is used.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let slash = zero(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let hits = quote | slash | control;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}
