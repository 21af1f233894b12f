//! `$(NAME)` in commands, arguments and variables.

/// Replaces `$(NAME)` by its value. What has no value stays as written; `$$` is one dollar.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_dollars_kept() {
        let value = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let table = [
            ("$(A)", "one"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$one"),
            ("$(B) $(A)", "$(B) one"),
            ("a$(EMPTY)b", "ab"),
            ("$A $( $", "$A $( $"),
            ("$(A)$(A)", "oneone"),
            ("", ""),
            ("100$", "100$"),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text, value), expected, "{text}");
        }
    }
}
