//! Tests in a source file, found by their text.

/// What is known of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is no function of this name.
    Missing,
    /// The function is no test.
    NoTest,
    /// The test is ignored.
    Ignored,
    /// The test is run.
    Test,
}

/// Looks for the test of this name. It is one if `#[test]`, or an attribute that ends in `::test`, stands above it.
#[must_use]
pub fn find_test(source: &str, name: &str) -> Found {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let Some(at) = lines.iter().position(|line| declares(line, name)) else {
        return Found::Missing;
    };
    let is_above = |line: &&&str| line.starts_with("#[") || line.starts_with("//");
    let attributes: Vec<&&str> = lines[..at].iter().rev().take_while(is_above).collect();
    if attributes.iter().any(|line| line.starts_with("#[ignore")) {
        return Found::Ignored;
    }
    let is_test = attributes.iter().any(|line| is_test(line));
    if is_test { Found::Test } else { Found::NoTest }
}

fn declares(line: &str, name: &str) -> bool {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    let rest = line.strip_prefix("fn ").and_then(|line| line.strip_prefix(name));
    rest.is_some_and(|rest| rest.starts_with('(') || rest.starts_with('<'))
}

fn is_test(attribute: &str) -> bool {
    let word = attribute.trim_start_matches("#[").split(['(', ']']).next().unwrap_or_default();
    word == "test" || word.ends_with("::test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_told_from_what_is_none() {
        let source = "\
            #[test]\nfn plain() {}\n\
            #[tokio::test(flavor = \"multi_thread\")]\nasync fn with_runtime() {}\n\
            #[test]\n// Why.\n#[ignore = \"slow\"]\nfn skipped() {}\n\n\
            fn helper() {}\n\
            proptest! {\n    #[test]\n    fn of_any(x in 0..9u8) {}\n}\n";
        assert_eq!(find_test(source, "plain"), Found::Test);
        assert_eq!(find_test(source, "with_runtime"), Found::Test);
        assert_eq!(find_test(source, "of_any"), Found::Test);
        assert_eq!(find_test(source, "skipped"), Found::Ignored);
        assert_eq!(find_test(source, "helper"), Found::NoTest);
        assert_eq!(find_test(source, "plai"), Found::Missing);
    }
}
