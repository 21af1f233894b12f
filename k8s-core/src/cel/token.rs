//! Splits an expression into tokens. Positions are byte offsets.

use super::error::Issue;

/// One token and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spanned<'s> {
    pub token: Token<'s>,
    pub offset: usize,
    pub end: usize,
}

/// What the parser reads.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'s> {
    /// A name, also a reserved one.
    Ident(&'s str),
    /// A name between backticks, for fields that are no identifiers.
    Quoted(&'s str),
    /// The digits of an integer, in base 10 or 16.
    Int(&'s str, u32),
    /// The same with a `u` behind it.
    Uint(&'s str, u32),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    /// An operator or a bracket.
    Op(&'static str),
    End,
}

/// Longest first where one begins another.
const OPERATORS: [&str; 26] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}", "=", "|",
];

/// All tokens of an expression, the last one being [`Token::End`].
pub(super) fn tokens(source: &str) -> Result<Vec<Spanned<'_>>, Issue> {
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::with_capacity(source.len() / 4);
    loop {
        lexer.skip_space();
        let offset = lexer.at;
        let token = lexer.token()?;
        let done = token == Token::End;
        tokens.push(Spanned { token, offset, end: lexer.at });
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.source.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) {
        loop {
            match self.byte(0) {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0c => self.at += 1,
                b'/' if self.byte(1) == b'/' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    fn token(&mut self) -> Result<Token<'s>, Issue> {
        let Some(first) = self.rest().chars().next() else { return Ok(Token::End) };
        if let Some(prefix) = self.literal_prefix() {
            return self.text(prefix);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let name = self.take(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            return Ok(Token::Ident(name));
        }
        if first.is_ascii_digit() || (first == '.' && self.byte(1).is_ascii_digit()) {
            return self.number();
        }
        if first == '`' {
            return self.quoted();
        }
        let found = OPERATORS.iter().find(|op| self.rest().starts_with(**op)).filter(|op| !matches!(**op, "=" | "|"));
        let Some(op) = found else { return Err(unrecognized(self.at, &first.to_string())) };
        self.at += op.len();
        Ok(Token::Op(op))
    }

    fn take(&mut self, belongs: impl Fn(u8) -> bool) -> &'s str {
        let start = self.at;
        while self.at < self.source.len() && belongs(self.byte(0)) {
            self.at += 1;
        }
        &self.source[start..self.at]
    }

    fn quoted(&mut self) -> Result<Token<'s>, Issue> {
        let offset = self.at;
        self.at += 1;
        let name = self.take(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b' '));
        if name.is_empty() || self.byte(0) != b'`' {
            return Err(unrecognized(offset, "`"));
        }
        self.at += 1;
        Ok(Token::Quoted(name))
    }

    fn number(&mut self) -> Result<Token<'s>, Issue> {
        let offset = self.at;
        if self.byte(0) == b'0' && matches!(self.byte(1), b'x' | b'X') && self.byte(2).is_ascii_hexdigit() {
            self.at += 2;
            let digits = self.take(|byte| byte.is_ascii_hexdigit());
            return Ok(self.integer(digits, 16));
        }
        let digits = self.take(|byte| byte.is_ascii_digit());
        let mut whole = true;
        if self.byte(0) == b'.' && self.byte(1).is_ascii_digit() {
            whole = false;
            self.at += 1;
            self.take(|byte| byte.is_ascii_digit());
        }
        let sign = usize::from(matches!(self.byte(1), b'+' | b'-'));
        if matches!(self.byte(0), b'e' | b'E') && self.byte(1 + sign).is_ascii_digit() {
            whole = false;
            self.at += 1 + sign;
            self.take(|byte| byte.is_ascii_digit());
        }
        if whole {
            return Ok(self.integer(digits, 10));
        }
        let value = self.source[offset..self.at].parse::<f64>().ok();
        value.map(Token::Double).ok_or_else(|| Issue::new(offset, "invalid double literal"))
    }

    fn integer(&mut self, digits: &'s str, base: u32) -> Token<'s> {
        if matches!(self.byte(0), b'u' | b'U') {
            self.at += 1;
            return Token::Uint(digits, base);
        }
        Token::Int(digits, base)
    }

    /// What stands before the quotes of a string here, if one begins here.
    fn literal_prefix(&self) -> Option<Prefix> {
        let mut prefix = Prefix { raw: false, bytes: false, length: 0 };
        loop {
            match self.byte(prefix.length) {
                b'r' | b'R' if !prefix.raw => prefix.raw = true,
                b'b' | b'B' if !prefix.bytes => prefix.bytes = true,
                b'"' | b'\'' => return Some(prefix),
                _ => return None,
            }
            prefix.length += 1;
        }
    }

    fn text(&mut self, prefix: Prefix) -> Result<Token<'s>, Issue> {
        let offset = self.at;
        self.at += prefix.length;
        let quote = self.byte(0);
        let triple = self.byte(1) == quote && self.byte(2) == quote;
        let width = if triple { 3 } else { 1 };
        self.at += width;
        let start = self.at;
        loop {
            match self.byte(0) {
                0 if self.at >= self.source.len() => return Err(unrecognized(offset, &self.source[offset..])),
                b'\n' | b'\r' if !triple => return Err(unrecognized(offset, &self.source[offset..self.at])),
                b'\\' if !prefix.raw => self.at += 2,
                byte if byte == quote && (!triple || (self.byte(1) == quote && self.byte(2) == quote)) => break,
                _ => self.at += 1,
            }
        }
        // Backslashes step over one byte, which may be the first of a character.
        let Some(body) = self.source.get(start..self.at) else { return Err(unrecognized(offset, "\\")) };
        self.at += width;
        let mut unescaper = Unescaper { body: body.as_bytes(), at: 0, bytes: prefix.bytes, out: Vec::new() };
        let value = if prefix.raw { body.as_bytes().to_vec() } else { unescaper.run(offset)? };
        if prefix.bytes {
            return Ok(Token::Bytes(value));
        }
        String::from_utf8(value).map(Token::String).map_err(|_| Issue::new(offset, "invalid string literal"))
    }
}

struct Prefix {
    raw: bool,
    bytes: bool,
    length: usize,
}

/// Resolves the escapes of a string or of bytes.
struct Unescaper<'b> {
    body: &'b [u8],
    at: usize,
    bytes: bool,
    out: Vec<u8>,
}

impl Unescaper<'_> {
    fn run(&mut self, offset: usize) -> Result<Vec<u8>, Issue> {
        while let Some(byte) = self.body.get(self.at).copied() {
            self.at += 1;
            if byte != b'\\' {
                self.out.push(byte);
                continue;
            }
            self.escape().ok_or_else(|| Issue::new(offset, "Syntax error: invalid escape sequence"))?;
        }
        Ok(std::mem::take(&mut self.out))
    }

    fn escape(&mut self) -> Option<()> {
        let kind = self.body.get(self.at).copied()?;
        self.at += 1;
        let plain = match kind {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'\\' | b'?' | b'"' | b'\'' | b'`' => kind,
            b'x' | b'X' => return self.code(2, 16),
            b'u' if !self.bytes => return self.code(4, 16),
            b'U' if !self.bytes => return self.code(8, 16),
            b'0'..=b'3' => {
                self.at -= 1;
                return self.code(3, 8);
            }
            _ => return None,
        };
        self.out.push(plain);
        Some(())
    }

    fn code(&mut self, digits: usize, base: u32) -> Option<()> {
        let text = std::str::from_utf8(self.body.get(self.at..self.at + digits)?).ok()?;
        if !text.bytes().all(|byte| char::from(byte).is_digit(base)) {
            return None;
        }
        let value = u32::from_str_radix(text, base).ok()?;
        self.at += digits;
        if self.bytes {
            self.out.push(u8::try_from(value).ok()?);
            return Some(());
        }
        let mut buffer = [0; 4];
        self.out.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut buffer).as_bytes());
        Some(())
    }
}

fn unrecognized(offset: usize, text: &str) -> Issue {
    let shown: String = text.chars().take(40).collect();
    Issue::new(offset, format!("Syntax error: token recognition error at: '{shown}'"))
}
