//! Headings, sections and console blocks of a document.

/// A heading, and what stands below it up to the next heading that is not below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The heading as it is written in a link: lower case, words joined by `-`.
    pub anchor: String,
    /// The heading and all below it.
    pub text: String,
}

/// All sections of a document, in its order; those below others are in them as well. Nothing in a code block is a
/// heading.
#[must_use]
pub fn sections(document: &str) -> Vec<Section> {
    let lines: Vec<&str> = document.lines().collect();
    let levels = levels(&lines);
    let mut found = Vec::new();
    for (at, level) in levels.iter().enumerate().filter(|(_, level)| **level > 0) {
        let after = levels[at + 1..].iter().position(|other| (1..=*level).contains(other));
        let end = after.map_or(lines.len(), |after| at + 1 + after);
        let anchor = anchor(lines[at].trim_start_matches('#'));
        found.push(Section { anchor, text: lines[at..end].join("\n") });
    }
    found
}

/// The level of the heading on each line; 0 if there is none.
fn levels(lines: &[&str]) -> Vec<usize> {
    let mut in_code = false;
    let level = |line: &&str| {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let marks = line.chars().take_while(|c| *c == '#').count();
        let is_heading = !in_code && line[marks..].starts_with(' ');
        if is_heading { marks } else { 0 }
    };
    lines.iter().map(level).collect()
}

/// A heading as it is written in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A command of a `console` block, and what it shows below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The node on which it is typed; empty after `$ `.
    pub prompt: String,
    /// What is typed. A line that ends in `\\` goes on in the next one.
    pub command: String,
    /// The lines below it, up to the next command, without blank lines at the end.
    pub shown: Vec<String>,
}

/// The commands of all `console` blocks: what follows `$ ` or `hp1# `.
#[must_use]
pub fn commands(document: &str) -> Vec<String> {
    steps(document).into_iter().map(|step| step.command).collect()
}

/// All that is typed in `console` blocks, and what it shows.
#[must_use]
pub fn steps(document: &str) -> Vec<Step> {
    let mut found: Vec<Step> = Vec::new();
    let (mut in_block, mut goes_on) = (false, false);
    for line in document.lines().map(str::trim) {
        if line.starts_with("```") {
            in_block = !in_block && line == "```console";
            goes_on = false;
        } else if in_block {
            goes_on = take(line, goes_on, &mut found);
        }
    }
    for step in &mut found {
        while step.shown.last().is_some_and(String::is_empty) {
            step.shown.pop();
        }
    }
    found
}

/// Takes one line of a block; says whether the command goes on in the next one.
fn take(line: &str, goes_on: bool, found: &mut Vec<Step>) -> bool {
    let typed = if goes_on { Some(("", line)) } else { without_prompt(line) };
    let Some((prompt, command)) = typed else {
        if let Some(last) = found.last_mut() {
            last.shown.push(line.to_owned());
        }
        return false;
    };
    let (part, more) = command.strip_suffix('\\').map_or((command, false), |part| (part.trim_end(), true));
    match found.last_mut().filter(|_| goes_on) {
        Some(last) => last.command = format!("{} {part}", last.command),
        None => found.push(Step { prompt: prompt.to_owned(), command: part.to_owned(), shown: Vec::new() }),
    }
    more
}

/// The node of the prompt, and what follows it, if the line has one: `$ `, or the name of a node and `# `.
fn without_prompt(line: &str) -> Option<(&str, &str)> {
    let (prompt, command) = line.split_once(' ')?;
    if prompt == "$" {
        return Some(("", command));
    }
    let node = prompt.strip_suffix('#')?;
    (!node.is_empty() && node.chars().all(char::is_alphanumeric)).then_some((node, command))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A page\n\nintro\n\n## `node.toml`: keys, values\n\none\n\n```sh\n# no heading\n```\n\n### Deeper\n\ntwo\n\n## Last\nthree\n";

    #[test]
    fn a_section_ends_at_the_next_heading_that_is_not_below_it() {
        let found = sections(PAGE);
        let anchors: Vec<&str> = found.iter().map(|section| section.anchor.as_str()).collect();
        assert_eq!(anchors, ["a-page", "nodetoml-keys-values", "deeper", "last"]);
        assert!(found[1].text.contains("two") && !found[1].text.contains("three"), "{}", found[1].text);
        assert!(found[0].text.contains("three"));
    }

    #[test]
    fn commands_stand_in_console_blocks_behind_a_prompt() {
        let page = "```console\n$ playground up\nNODE\nhp1# pvecm create lab \\\n    --votes 1\ncluster lab\n# no prompt\n```\n```sh\n$ not this\n```\n";
        assert_eq!(commands(page), ["playground up", "pvecm create lab --votes 1"]);
        let steps = steps(page);
        assert_eq!((steps[0].prompt.as_str(), steps[1].prompt.as_str()), ("", "hp1"));
        assert_eq!(steps[1].shown, ["cluster lab", "# no prompt"]);
    }

    proptest::proptest! {
        #[test]
        fn no_document_makes_the_readers_panic(document in "([#` a$\\\\-]{0,8}\n){0,9}") {
            let _ = (sections(&document), commands(&document), steps(&document));
        }
    }
}
