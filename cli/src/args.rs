//! The spellings of older `pvecm`s, rewritten into those that clap understands.
//!
//! Three differences: a long option may start with one dash (`-votes 1`), words in it may be joined by `_` or `-`
//! (`--ring0_addr`, `--ring0-addr`), and a flag may carry a boolean (`--force 0`). Source: spec 1 and 2.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
};

/// Words that count as a boolean after a flag. Source: spec 1.
const BOOLEANS: [&str; 8] = ["0", "1", "yes", "no", "on", "off", "true", "false"];

/// The long options that a command line may contain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Every spelling without dashes, with `-` between words, and the spelling that clap knows.
    spellings: BTreeMap<String, String>,
    /// Those (as clap knows them) that stand alone or take a boolean.
    flags: BTreeSet<String>,
}

impl Options {
    /// Collects the options of a command and all commands below it.
    #[must_use]
    pub fn of(command: &clap::Command) -> Self {
        let mut options = Self::default();
        options.collect(command);
        options
    }

    fn collect(&mut self, command: &clap::Command) {
        for argument in command.get_arguments() {
            let Some(name) = argument.get_long() else { continue };
            for spelling in argument.get_all_aliases().unwrap_or_default().into_iter().chain([name]) {
                self.spellings.insert(hyphenated(spelling), name.to_owned());
            }
            let takes_boolean = argument.is_require_equals_set();
            if takes_boolean {
                self.flags.insert(name.to_owned());
            }
        }
        for sub in command.get_subcommands() {
            self.collect(sub);
        }
    }

    /// The arguments in clap's spelling. What is no known option is left alone, and so is all after `--`.
    #[must_use]
    pub fn normalise(&self, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
        let mut arguments = arguments.into_iter().peekable();
        let mut normalised: Vec<OsString> = arguments.next().into_iter().collect();
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                normalised.push(argument);
                normalised.extend(arguments);
                break;
            }
            let Some(mut option) = argument.to_str().and_then(|text| self.option(text)) else {
                normalised.push(argument);
                continue;
            };
            if self.flags.contains(&option[2..])
                && let Some(value) = arguments.next_if(is_boolean)
            {
                option = format!("{option}={}", value.to_string_lossy());
            }
            normalised.push(option.into());
        }
        normalised
    }

    /// The option in clap's spelling, dashes and attached value included; `None` if it is none that we know.
    fn option(&self, text: &str) -> Option<String> {
        let bare = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
        let (name, value) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (bare, None),
        };
        let known = self.spellings.get(&hyphenated(name))?;
        Some(value.map_or_else(|| format!("--{known}"), |value| format!("--{known}={value}")))
    }
}

fn hyphenated(name: &str) -> String {
    name.replace('_', "-")
}

fn is_boolean(argument: &OsString) -> bool {
    argument.to_str().is_some_and(|text| BOOLEANS.contains(&text))
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Command};
    use proptest::prelude::*;

    use super::*;

    fn options() -> Options {
        let flag = Arg::new("force").long("force").num_args(0..=1).require_equals(true);
        let create = Command::new("create")
            .arg(Arg::new("votes").long("votes"))
            .arg(Arg::new("ring0").long("ring0_addr"))
            .arg(Arg::new("output").short('o').long("output"))
            .arg(Arg::new("quiet").long("quiet").action(ArgAction::SetTrue))
            .arg(flag);
        Options::of(&Command::new("pvecm").subcommand(create))
    }

    fn normalise(line: &str) -> String {
        let words = options().normalise(line.split(' ').map(OsString::from));
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_dash_before_a_long_option_becomes_two() {
        assert_eq!(normalise("pvecm create lab -votes 1"), "pvecm create lab --votes 1");
        assert_eq!(normalise("pvecm create lab -votes=1"), "pvecm create lab --votes=1");
    }

    #[test]
    fn underscores_and_hyphens_name_the_same_option() {
        for spelling in ["-ring0_addr", "--ring0_addr", "--ring0-addr", "-ring0-addr"] {
            assert_eq!(
                normalise(&format!("pvecm create lab {spelling} a")),
                "pvecm create lab --ring0_addr a"
            );
        }
    }

    #[test]
    fn a_boolean_after_a_flag_belongs_to_the_flag() {
        assert_eq!(normalise("pvecm create --force 0 lab"), "pvecm create --force=0 lab");
        assert_eq!(normalise("pvecm create -force yes lab"), "pvecm create --force=yes lab");
    }

    #[test]
    fn another_word_after_a_flag_stays_a_positional_argument() {
        assert_eq!(normalise("pvecm create --force lab"), "pvecm create --force lab");
    }

    #[test]
    fn short_options_and_negative_numbers_are_left_alone() {
        assert_eq!(normalise("pvecm create lab -o json"), "pvecm create lab -o json");
        assert_eq!(normalise("pvecm create -5 -"), "pvecm create -5 -");
    }

    #[test]
    fn nothing_is_touched_after_two_dashes() {
        assert_eq!(normalise("pvecm create -- -votes --force 1"), "pvecm create -- -votes --force 1");
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing_more(words in prop::collection::vec("[-a-z0-9_=]{0,12}", 0..6)) {
            let once = options().normalise(words.into_iter().map(OsString::from));
            let twice = options().normalise(once.clone());
            prop_assert_eq!(once, twice);
        }
    }
}
