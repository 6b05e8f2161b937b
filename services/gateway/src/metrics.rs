//! One page of metrics out of those of all daemons of the node.
//!
//! Each daemon serves OpenMetrics text of its own; several of them have families of the same name
//! (the duration of calls, for one). On the common page every sample carries the label `daemon`, and
//! a family stands once, as the format demands.

/// What one daemon answered.
pub struct Part<'a> {
    /// The daemon's name.
    pub daemon: &'a str,
    /// Its metrics; `None` if it did not answer.
    pub text: Option<&'a str>,
}

/// A family of metrics: its description, from whoever came first, and the samples of all.
struct Family<'a> {
    name: &'a str,
    description: Vec<&'a str>,
    samples: Vec<String>,
}

/// Merges the metrics of several daemons. A daemon that did not answer shows as `quorate_daemon_up` 0.
#[must_use]
pub fn merge(parts: &[Part<'_>]) -> String {
    let mut families: Vec<Family<'_>> = Vec::new();
    for part in parts {
        add(&mut families, part);
    }
    let mut page = String::new();
    for family in &families {
        for line in family.description.iter().copied().chain(family.samples.iter().map(String::as_str)) {
            page.push_str(line);
            page.push('\n');
        }
    }
    page.push_str("# HELP quorate_daemon_up Whether the daemon answered when its metrics were read.\n");
    page.push_str("# TYPE quorate_daemon_up gauge\n");
    for Part { daemon, text } in parts {
        page.push_str(&format!("quorate_daemon_up{{daemon=\"{daemon}\"}} {}\n", u8::from(text.is_some())));
    }
    page.push_str("# EOF\n");
    page
}

fn add<'a>(families: &mut Vec<Family<'a>>, part: &Part<'a>) {
    let mut current = None;
    let mut fresh = false;
    for line in part.text.unwrap_or_default().lines().filter(|line| !line.is_empty()) {
        if let Some(described) = described(line) {
            let Some(name) = described else { continue };
            if current.is_none_or(|at: usize| families[at].name != name) {
                (current, fresh) = find(families, name);
            }
            if fresh && let Some(at) = current {
                families[at].description.push(line);
            }
            continue;
        }
        let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
        if current.is_none_or(|at| !name.starts_with(families[at].name)) {
            (current, fresh) = find(families, name);
        }
        if let Some(at) = current {
            families[at].samples.push(labelled(line, name, part.daemon));
        }
    }
}

/// `None`: not a comment. `Some(None)`: a comment about nothing in particular, such as the end mark.
fn described(line: &str) -> Option<Option<&str>> {
    let mut words = line.strip_prefix('#')?.split_ascii_whitespace();
    let about = matches!(words.next(), Some("HELP" | "TYPE" | "UNIT"));
    Some(words.next().filter(|_| about))
}

/// The family's place, and whether it was not there before.
fn find<'a>(families: &mut Vec<Family<'a>>, name: &'a str) -> (Option<usize>, bool) {
    if let Some(at) = families.iter().position(|family| family.name == name) {
        return (Some(at), false);
    }
    families.push(Family { name, description: Vec::new(), samples: Vec::new() });
    (Some(families.len() - 1), true)
}

fn labelled(line: &str, name: &str, daemon: &str) -> String {
    let rest = &line[name.len()..];
    match rest.strip_prefix('{') {
        Some(labels) if labels.starts_with('}') => format!("{name}{{daemon=\"{daemon}\"{labels}"),
        Some(labels) => format!("{name}{{daemon=\"{daemon}\",{labels}"),
        None => format!("{name}{{daemon=\"{daemon}\"}}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CALLS: &str = "# HELP calls Calls.\n# TYPE calls counter\ncalls_total{method=\"a\"} 1\ncalls_total{method=\"b\"} 2\n# EOF\n";

    #[test]
    fn a_family_of_two_daemons_stands_once_with_the_samples_of_both() {
        let parts = [
            Part { daemon: "quorumd", text: Some(CALLS) },
            Part {
                daemon: "configd",
                text: Some("# HELP calls Calls.\n# TYPE calls counter\ncalls_total 7\n# EOF\n"),
            },
        ];

        let page = merge(&parts);

        assert_eq!(page.matches("# TYPE calls counter").count(), 1, "{page}");
        assert!(page.contains("calls_total{daemon=\"quorumd\",method=\"a\"} 1\n"), "{page}");
        assert!(page.contains("calls_total{daemon=\"configd\"} 7\n"), "{page}");
        assert_eq!(page.matches("# EOF").count(), 1);
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn samples_of_one_family_stay_together() {
        let parts = [
            Part { daemon: "a", text: Some("# TYPE x gauge\nx 1\n# TYPE y gauge\ny 1\n") },
            Part { daemon: "b", text: Some("# TYPE y gauge\ny 2\n# TYPE x gauge\nx 2\n") },
        ];
        let page = merge(&parts);
        let lines: Vec<&str> = page.lines().take(6).collect();
        assert_eq!(
            lines,
            [
                "# TYPE x gauge",
                "x{daemon=\"a\"} 1",
                "x{daemon=\"b\"} 2",
                "# TYPE y gauge",
                "y{daemon=\"a\"} 1",
                "y{daemon=\"b\"} 2",
            ]
        );
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_shown_as_down() {
        let page = merge(&[Part { daemon: "quorumd", text: None }]);
        assert!(page.contains("quorate_daemon_up{daemon=\"quorumd\"} 0\n"), "{page}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_merge_panic(text in "([#a-z{} =\"\\n]|# (TYPE|HELP) x ){0,80}") {
            let _ = merge(&[Part { daemon: "a", text: Some(&text) }, Part { daemon: "b", text: Some(&text) }]);
        }
    }
}
