//! Texts inside the generated files.

/// A text in quotes, as JSON has it.
pub(super) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A text of the cluster log in quotes: ASCII only, control characters as `#` and three digits, what is beyond the
/// basic plane dropped. pmxcfs leaves the backslash alone, which may end the JSON; here it is escaped.
pub(super) fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match u32::from(c) {
            0x22 | 0x5c => out.extend(['\\', c]),
            code @ (..0x20 | 0x7f) => out.push_str(&format!("#{code:03}")),
            ..0x80 => out.push(c),
            code @ ..0x1_0000 => out.push_str(&format!("\\u{code:04x}")),
            _ => {}
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_text_is_ascii() {
        assert_eq!(ascii("a\"b\\c\n\u{7f}ä€😀z"), r#""a\"b\\c#010#127\u00e4\u20acz""#);
    }

    #[test]
    fn a_text_reads_back_as_it_was() {
        let text = "a\"b\\c\u{1}ä😀";
        assert_eq!(serde_json::from_str::<String>(&string(text)).expect("JSON"), text);
    }
}
