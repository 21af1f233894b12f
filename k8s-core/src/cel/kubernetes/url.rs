//! `url(text)`: the parts of an absolute URI or of an absolute path, as Go's parser of request URIs has them.

use std::rc::Rc;

use super::{Answer, Budget, EvalError, Opaque, Value, text};
use crate::cel::value::MapBuilder;

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    /// Reads a URL; says what is wrong with it.
    pub(in crate::cel) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("URL parse error during conversion from string: parse \"{text}\": {why}");
        if text.is_empty() {
            return Err(wrong("empty url"));
        }
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err(wrong("net/url: invalid control character in URL"));
        }
        let (scheme, rest) = split_scheme(text);
        if scheme.is_empty() && !text.starts_with('/') {
            return Err(wrong("invalid URI for request"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() || !rest.starts_with('/') => match rest.find('/') {
                Some(at) => rest.split_at(at),
                None => (rest, ""),
            },
            _ if !scheme.is_empty() && !rest.starts_with('/') => return Err(wrong("invalid URI for request")),
            _ => ("", rest),
        };
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if !valid_host(host) {
            return Err(wrong("invalid character in host name"));
        }
        if !valid_escapes(path) {
            return Err(wrong("invalid URL escape"));
        }
        let path = escape_path(path);
        Ok(Self { text: text.into(), scheme: scheme.to_lowercase(), host: host.into(), path, query: query.into() })
    }

    /// The URL as it was written.
    pub(in crate::cel) fn text(&self) -> &str {
        &self.text
    }

    fn hostname(&self) -> &str {
        if let Some(rest) = self.host.strip_prefix('[') {
            return rest.split(']').next().unwrap_or("");
        }
        self.host.split(':').next().unwrap_or("")
    }

    fn port(&self) -> &str {
        let after = self.host.rsplit(']').next().unwrap_or("");
        after.rsplit_once(':').map_or("", |(_, port)| port)
    }
}

fn split_scheme(text: &str) -> (&str, &str) {
    let Some((scheme, rest)) = text.split_once(':') else { return ("", text) };
    let valid = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    if valid { (scheme, rest) } else { ("", text) }
}

fn valid_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((_, "")) => return true,
            Some((_, after)) => match after.strip_prefix(':') {
                Some(port) => ("", port),
                None => return false,
            },
            None => return false,
        },
        None => host.rsplit_once(':').unwrap_or((host, "")),
    };
    port.bytes().all(|byte| byte.is_ascii_digit())
        && !name
            .bytes()
            .any(|byte| matches!(byte, b' ' | b'<' | b'>' | b'"' | b'^' | b'`' | b'{' | b'}' | b'|' | b'\\'))
        && !(host.contains('[') ^ host.contains(']'))
        && valid_escapes(name)
}

fn valid_escapes(text: &str) -> bool {
    let bytes = text.as_bytes();
    (0..bytes.len())
        .all(|at| bytes[at] != b'%' || (1..3).all(|ahead| bytes.get(at + ahead).is_some_and(u8::is_ascii_hexdigit)))
}

fn escape_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*".contains(&byte);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `url(text)`
pub(in crate::cel) fn url<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let url = Url::parse(text(args, 0)?).map_err(EvalError::new)?;
    Ok(Opaque::Url(Rc::new(url)).into())
}

/// `isURL(text)`
pub(in crate::cel) fn is_url<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(Url::parse(text(args, 0)?).is_ok()))
}

fn of<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, EvalError> {
    match &args[0] {
        Value::Opaque(Opaque::Url(url)) => Ok(url),
        _ => Err(EvalError::no_overload()),
    }
}

/// `u.getScheme()`
pub(in crate::cel) fn scheme<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::text(of(args)?.scheme.as_str()))
}

/// `u.getHost()`: with the port.
pub(in crate::cel) fn host<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::text(of(args)?.host.as_str()))
}

/// `u.getHostname()`: without the port.
pub(in crate::cel) fn hostname<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::text(of(args)?.hostname()))
}

/// `u.getPort()`
pub(in crate::cel) fn port<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::text(of(args)?.port()))
}

/// `u.getEscapedPath()`
pub(in crate::cel) fn escaped_path<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::text(of(args)?.path.as_str()))
}

/// `u.getQuery()`: a map of lists of values.
pub(in crate::cel) fn query<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let mut found: Vec<(String, Vec<Value<'a>>)> = Vec::new();
    for pair in of(args)?.query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(key), Some(value)) = (unescape(key), unescape(value)) else { continue };
        match found.iter_mut().find(|(name, _)| *name == key) {
            Some((_, values)) => values.push(Value::text(value)),
            None => found.push((key, vec![Value::text(value)])),
        }
    }
    let mut map = MapBuilder::default();
    for (key, values) in found {
        map.add(&Value::text(key), Value::list(values))?;
    }
    map.build()
}

fn unescape(text: &str) -> Option<String> {
    if !valid_escapes(text) {
        return None;
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => {
                out.push(u8::from_str_radix(&text[at + 1..at + 3], 16).ok()?);
                at += 2;
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).ok()
}
