//! The named formats of strings that are checked; others are taken as they are, as upstream does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};

/// Whether `text` is of `format`.
pub fn fits(format: &str, text: &str) -> bool {
    match format {
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some('3')),
        "uuid4" => uuid(text, Some('4')),
        "uuid5" => uuid(text, Some('5')),
        "byte" => STANDARD.decode(text).is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "date-time" | "datetime" => text.len() > 10 && text.parse::<jiff::Timestamp>().is_ok(),
        "duration" => duration(text),
        "hostname" => hostname(text),
        "email" => email(text),
        "uri" => uri(text),
        "hexcolor" => hex_color(text),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        _ => true,
    }
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    matches!(parts.len(), 6 | 8 | 20)
        && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn uuid(text: &str, version: Option<char>) -> bool {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    digits.len() == 32
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && version.is_none_or(|version| digits.chars().nth(12) == Some(version))
}

/// What Go calls a duration: `1h30m`, `-1.5s`.
fn duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if number == 0 || rest[..number].parse::<f64>().is_err() {
            return false;
        }
        rest = &rest[number..];
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let Some(after) = units.into_iter().find_map(|unit| rest.strip_prefix(unit)) else { return false };
        rest = after;
    }
    true
}

fn hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 255 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

fn email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    !local.is_empty() && !local.contains(char::is_whitespace) && hostname(domain)
}

fn uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return text.starts_with('/') };
    let first = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    let others = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    text.starts_with('/') || first && others && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn formats_are_told_apart() {
        let good = [
            ("ipv4", "10.0.0.1"),
            ("cidr", "fd00::/8"),
            ("mac", "00:11:22:33:44:55"),
            ("uuid4", "6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
            ("date", "2026-11-21"),
            ("date-time", "2026-11-21T05:00:00Z"),
            ("duration", "1h30m"),
            ("hostname", "a.example.com"),
            ("email", "a@example.com"),
            ("uri", "https://example.com/x"),
            ("byte", "aGk="),
            ("unknown", "anything"),
        ];
        for (format, text) in good {
            assert!(fits(format, text), "{format} {text}");
        }
        let bad = [
            ("ipv4", "10.0.0"),
            ("cidr", "10.0.0.0/33"),
            ("mac", "00:11"),
            ("uuid4", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
            ("date", "2026-13-01"),
            ("date-time", "yesterday"),
            ("duration", "1 hour"),
            ("hostname", "-a"),
            ("email", "example.com"),
            ("uri", "no uri"),
            ("byte", "?"),
        ];
        for (format, text) in bad {
            assert!(!fits(format, text), "{format} {text}");
        }
    }
}
