//! Regular expressions as Go reads them: the classes `\d`, `\s` and `\w` are of ASCII, and a bracket in a class is one.

use regex::Regex;

/// Compiles a pattern; what is wrong with it otherwise.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(&translate(pattern))
        .map_err(|why| why.to_string().lines().last().unwrap_or("it does not compile").to_owned())
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('s') => out.push_str(r"[\t\n\f\r ]"),
                Some('S') => out.push_str(r"[^\t\n\f\r ]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            '[' if in_class && chars.peek() == Some(&':') => out.push('['),
            '[' if in_class => out.push_str(r"\["),
            '[' => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that closes right away is one of the class.
                if chars.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            ':' if in_class
                && chars.peek() == Some(&']')
                && out.rfind("[:").is_some_and(|at| !out[at..].contains(']')) =>
            {
                chars.next();
                out.push_str(":]");
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            // Set operations of this engine, which Go does not have.
            '&' | '~' if in_class => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        let cases = [
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * * */5", true),
            (r"^\d+$", "٣", false),
            (r"^[\w.-]+$", "a_b.c-1", true),
            (r"^[[:alpha:]x]+$", "ab", true),
            (r"^[a[]+$", "a[", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "a&b", true),
            ("b", "abc", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(compile(pattern).unwrap().is_match(text), expected, "{pattern}");
        }
        assert!(compile("(").is_err() && compile("(?=x)").is_err());
    }
}
