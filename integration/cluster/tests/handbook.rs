//! The commands of the handbook do what it says: each page is typed on nodes of its own, and prints what it shows.
//!
//! A page with `console` blocks says in a comment which nodes it needs: `<!-- run: 4 nodes -->`, `<!-- run: a cluster of 4 -->`. Shown and
//! printed lines are compared by their words; numbers stand for any number, `...` for whatever is left out.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use checklist::{Step, steps};
use cluster_tests::{Lab, PATIENCE};
use tokio::{process::Command, time::Instant};

/// Addresses of the nodes in the handbook.
const SUBNET: &str = "10.77.0.";
/// Commands that change nothing, so that they can be repeated until what they show has come about.
const LOOKS: [&str; 4] = ["pvecm status", "pvecm nodes", "pvecm cfg get", "grep "];
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

fn page(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/handbook").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

async fn lab(page: &str) -> Lab {
    let needs = page.lines().find_map(|line| line.strip_prefix("<!-- run: ")?.strip_suffix(" -->"));
    let needs = needs.expect("the page says which nodes it needs");
    let number = |text: &str| text.parse().expect("a number of nodes");
    match (needs.strip_suffix(" nodes"), needs.strip_prefix("a cluster of ")) {
        (Some(count), _) => Lab::nodes(number(count)).await,
        (_, Some(count)) => Lab::cluster(number(count)).await,
        _ => panic!("'{needs}' are no nodes"),
    }
}

/// Where the test is: what was printed as a token last.
struct Walk<'a> {
    lab: &'a Lab,
    token: String,
}

impl Walk<'_> {
    async fn take(&mut self, step: &Step) {
        println!("{}# {}", step.prompt, step.command);
        if step.prompt.is_empty() {
            return self.playground(&step.command).await;
        }
        let is_look = LOOKS.iter().any(|look| step.command.starts_with(look));
        let end = Instant::now() + PATIENCE;
        loop {
            let (code, said) = self.typed(step).await;
            let expects_failure =
                step.shown.iter().any(|line| line.contains("error[") || line.contains("blocked"));
            let fits = fits(&self.here(&step.shown), &said) && (code == Some(0)) != expects_failure;
            if fits {
                if step.command == "pvecm token create" {
                    // The rest is what is said to the reader.
                    let longest = said.split_whitespace().max_by_key(|word| word.len());
                    self.token = longest.unwrap_or_default().to_owned();
                }
                return;
            }
            let shown = step.shown.join("\n");
            assert!(
                is_look && Instant::now() < end,
                "{}# {}: ended with {code:?} and printed\n{said}\nthe handbook shows\n{shown}",
                step.prompt,
                step.command
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What is shown, with the addresses of these nodes.
    fn here(&self, shown: &[String]) -> Vec<String> {
        shown.iter().map(|line| self.addressed(line)).collect()
    }

    fn addressed(&self, text: &str) -> String {
        let address = self.lab.node(1).address().to_string();
        let subnet = address.strip_suffix('1').expect("the first node has the number 1");
        text.replace(SUBNET, subnet)
    }

    async fn typed(&self, step: &Step) -> (Option<i32>, String) {
        let node = self.lab.playground().node(&step.prompt).expect("a node of the playground");
        let line = self.addressed(&step.command).replace("TOKEN", &self.token);
        let line = line.replace(" /etc/", " \"$QUORATE_ROOT\"/etc/");
        let mut command = Command::from(node.command("bash"));
        command.args(["-c", &format!("{{ {line}; }} 2>&1")]).current_dir(self.lab.playground().dir());
        let ended = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("bash runs");
        (ended.status.code(), String::from_utf8_lossy(&ended.stdout).into_owned())
    }

    async fn playground(&self, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        let ["playground", what, name] = words[..] else {
            panic!("'{command}' is nothing that a page may do")
        };
        let node = self.lab.playground().node(name).expect("a node of the playground");
        let done = match what {
            "kill" => node.kill(None).await,
            "start" => node.start().await,
            "stop" => node.stop().await,
            _ => panic!("'{command}' is nothing that a page may do"),
        };
        done.unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}

/// A line as words, with `#` for each number: decimal, hexadecimal, or the id of a ring.
fn words(line: &str) -> Vec<String> {
    let is_number = |word: &str| {
        let digits = word.trim_start_matches("0x");
        let is_digit = |c: char| c.is_ascii_hexdigit() || c == '.';
        !word.starts_with("127.")
            && digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.chars().all(is_digit)
    };
    line.split_whitespace()
        .map(|word| if is_number(word) { "#".to_owned() } else { word.to_owned() })
        .collect()
}

/// Whether what was printed is what is shown.
fn fits(shown: &[String], said: &str) -> bool {
    let said: Vec<&str> = said.lines().collect();
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    fits_from(&shown, &said)
}

fn fits_from(shown: &[&str], said: &[&str]) -> bool {
    match shown {
        [] => said.is_empty(),
        ["...", rest @ ..] => (0..=said.len()).any(|skipped| fits_from(rest, &said[skipped..])),
        [line, rest @ ..] => match said {
            [first, others @ ..] => is_line(line, first) && fits_from(rest, others),
            [] => false,
        },
    }
}

fn is_line(shown: &str, said: &str) -> bool {
    match shown.strip_suffix("...") {
        Some(begin) => said.starts_with(begin.trim_end()),
        None => words(shown) == words(said),
    }
}

async fn walk(name: &str) {
    let page = page(name);
    let steps = steps(&page);
    assert!(!steps.is_empty(), "{name} has no commands");
    let lab = lab(&page).await;
    let mut walk = Walk { lab: &lab, token: String::new() };
    for step in &steps {
        walk.take(step).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_a_cluster_and_adding_nodes() {
    walk("creating.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_node() {
    walk("removing.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quorum() {
    walk("quorum.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn editing_corosync_conf() {
    walk("corosync-conf.md").await;
}

#[test]
fn every_page_with_commands_is_run() {
    let own = fs::read_to_string(file!()).or_else(|_| fs::read_to_string("tests/handbook.rs"));
    let own = own.expect("this file");
    let pages = fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/handbook"));
    for entry in pages.expect("the handbook") {
        let name = entry.expect("a page").file_name().to_string_lossy().into_owned();
        let is_run = own.contains(&format!("walk(\"{name}\")"));
        assert!(steps(&page(&name)).is_empty() || is_run, "{name} has commands that nobody runs");
    }
}

#[test]
fn what_is_shown_stands_for_any_number_and_for_nothing_else() {
    let shown = ["Nodes: 4", "...", "done"].map(str::to_owned);
    assert!(fits(&shown, "Nodes:   3\na\nb\ndone\n"));
    assert!(!fits(&shown, "Nodes:   three\ndone\n"));
    assert!(!fits(&shown, "Nodes:   3\nb\n"));
    assert!(!fits(&[], "a word\n"));
}
