//! What names, label keys and label values may look like.
//!
//! Each check returns what is wrong, in the words of apimachinery's `util/validation` where clients match on them;
//! an empty list means that the text is fine.

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
    for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
    'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str = "a valid environment variable name must consist only of printable ASCII characters other than \
    '='";

/// The greatest length of a DNS label, in bytes.
pub const MAX_LABEL: usize = 63;

/// The greatest length of a DNS subdomain, in bytes.
pub const MAX_SUBDOMAIN: usize = 253;

/// What is wrong with a name; mostly nothing.
pub type Problems = Vec<String>;

/// An RFC 1123 label: the name of a namespace, container, volume.
pub fn dns_label(text: &str) -> Problems {
    let mut problems = too_long(text, MAX_LABEL);
    if !is_dns_label(text.as_bytes()) {
        problems.push(LABEL.into());
    }
    problems
}

/// An RFC 1035 label, which starts with a letter: the name of a Service.
pub fn dns_1035_label(text: &str) -> Problems {
    let mut problems = too_long(text, MAX_LABEL);
    if !is_dns_label(text.as_bytes()) || !text.starts_with(|first: char| first.is_ascii_lowercase()) {
        problems.push(DNS_1035.into());
    }
    problems
}

/// An RFC 1123 subdomain: the name of most objects.
pub fn dns_subdomain(text: &str) -> Problems {
    let mut problems = too_long(text, MAX_SUBDOMAIN);
    if !is_subdomain(text) {
        problems.push(SUBDOMAIN.into());
    }
    problems
}

/// A name that may stand as one step of a path: the name of an RBAC object.
pub fn path_segment(text: &str) -> Problems {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    let stray = |letter: &&&str| text.contains(**letter);
    ["/", "%"].iter().filter(stray).map(|letter| format!("may not contain '{letter}'")).collect()
}

/// A label key, annotation key or finalizer: a name with an optional subdomain and `/` before it.
pub fn qualified_name(text: &str) -> Problems {
    let mut problems = Vec::new();
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if name.contains('/') {
        problems.push(format!(
            "a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ));
        return problems;
    }
    match prefix {
        Some("") => problems.push("prefix part must be non-empty".into()),
        Some(prefix) => problems.extend(dns_subdomain(prefix).iter().map(|problem| format!("prefix part {problem}"))),
        None => {}
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else {
        problems.extend(too_long(name, MAX_LABEL).iter().map(|problem| format!("name part {problem}")));
    }
    if !is_qualified_part(name) {
        problems.push(format!("name part {QUALIFIED}"));
    }
    problems
}

/// The value of a label; may be empty.
pub fn label_value(text: &str) -> Problems {
    let mut problems = too_long(text, MAX_LABEL);
    if !text.is_empty() && !is_qualified_part(text) {
        problems.push(VALUE.into());
    }
    problems
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Problems {
    let mut problems = too_long(text, MAX_SUBDOMAIN);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
        problems.push(CONFIG_KEY.into());
    }
    if text == "." || text == ".." {
        problems.push(format!("must not be '{text}'"));
    } else if text.starts_with("..") {
        problems.push("must not start with '..'".into());
    }
    problems
}

/// The name of an environment variable.
pub fn env_name(text: &str) -> Problems {
    let fine = !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=');
    if fine { Vec::new() } else { vec![ENV_NAME.into()] }
}

/// The name of a port: at most 15 of `a-z`, `0-9` and `-`, with a letter.
pub fn port_name(text: &str) -> Problems {
    let bytes = text.as_bytes();
    let mut problems = too_long(text, 15);
    if !bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-') {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !bytes.iter().any(u8::is_ascii_lowercase) {
        problems.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".into());
    }
    problems
}

/// A domain, a slash and a path below it: who is responsible for something.
pub fn domain_prefixed_path(text: &str) -> Problems {
    let Some((domain, path)) = text.split_once('/').filter(|(domain, path)| !domain.is_empty() && !path.is_empty())
    else {
        return vec!["must be a domain-prefixed path (such as \"acme.io/foo\")".into()];
    };
    let mut problems: Problems = dns_subdomain(domain).iter().map(|problem| format!("prefix part {problem}")).collect();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/:@%!$&'()*+,;=._~-".contains(&byte);
    if !path.bytes().all(is_plain) {
        problems.push("Invalid path (must consist of unreserved characters and sub-delimiters of RFC 3986)".into());
    }
    problems
}

/// The name of a signer of certificates: a domain with at least two parts, a slash, and a path of subdomains.
pub fn signer_name(text: &str) -> Problems {
    let Some((domain, path)) = text.split_once('/') else {
        return vec!["must be a fully qualified domain and path of the form 'example.com/signer-name'".into()];
    };
    let mut problems: Problems = dns_subdomain(domain);
    if !domain.contains('.') {
        problems.push("should be a domain with at least two segments separated by dots".into());
    }
    if path.is_empty() {
        problems.push("must have at least one path segment of the form 'example.com/signer-name'".into());
    } else {
        problems.extend(path.split('/').flat_map(dns_subdomain));
    }
    problems.extend(too_long(text, 571));
    problems
}

fn too_long(text: &str, most: usize) -> Problems {
    if text.len() > most { vec![format!("must be no more than {most} bytes")] } else { Vec::new() }
}

fn is_dns_label(bytes: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.first().is_some_and(plain) && bytes.last().is_some_and(plain) && bytes.iter().all(|b| plain(b) || *b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|part| is_dns_label(part.as_bytes()))
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fine_or_not() {
        let (label, subdomain) = ("a".repeat(63), format!("{}.a", "b".repeat(251)));
        type Case<'a> = (fn(&str) -> Problems, &'a [&'a str], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (dns_label, &["a", "a-1", "1", &label], &["", "-a", "a-", "A", "a.b", "a_b", "ä", &subdomain]),
            (dns_1035_label, &["a", "a-1"], &["1a", "", "a.b"]),
            (dns_subdomain, &["a", "a.b-c.1", &subdomain], &["", "a..b", ".a", "a.", "A", "-a.b", &"a".repeat(254)]),
            (path_segment, &["a:b", "system:x"], &["a/b", "a%b", ".", ".."]),
            (qualified_name, &["a", "A_b.c", "x.y/A"], &["", "/a", "x/", "a/b/c", "X.y/a", "a/-b", &"a".repeat(64)]),
            (label_value, &["", "a", "A.b_c-1"], &["-a", "a b", "a/b", &"a".repeat(64)]),
            (config_key, &["a", "A_b-c.d", ".x"], &["", "a/b", ".", "..", "..a", "a b"]),
            (env_name, &["A", "a.b-c", "1 x"], &["", "a=b", "ä"]),
            (domain_prefixed_path, &["a.b/c", "a/b/c"], &["", "a", "/a", "a/", "A/b", "a/b c"]),
            (signer_name, &["a.b/c", "a.b/c/d"], &["", "a.b", "a/c", "a.b/", "a.b/C"]),
            (port_name, &["http", "a-1"], &["", "80", "a--b", "-a", "a-", "Http", "averyveryverylong"]),
        ];
        for (check, fine, wrong) in cases {
            fine.iter().for_each(|name| assert_eq!(check(name), Problems::new(), "{name}"));
            wrong.iter().for_each(|name| assert_ne!(check(name), Problems::new(), "{name}"));
        }
    }

    #[test]
    fn problems_read_as_upstream_has_them() {
        assert!(dns_label("A")[0].contains("regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'"));
        assert_eq!(dns_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
    }
}
