//! Runs seeds of the cluster simulator.
//!
//! `simulate --seed 42 --verbose` replays one seed with a line per event; `simulate --seeds 1..1000`
//! runs many, with a line of progress now and then and a summary, and ends with exit code 1 at the first that
//! fails. `simulate --calm-hours 24 --nodes 8` lets a cluster as `pvecm create` makes it run for so long, with one
//! packet in a hundred lost and nothing else wrong, and counts the false alarms.

use std::{
    ops::Range,
    process::ExitCode,
    str::FromStr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use simulator::{
    calm,
    cluster::Tally,
    mutation::Mutation,
    setup::Setup,
    simulation::{Options, Report, run_caught},
    trace::Lines,
};

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// Simulates clusters of membershipd, quorumd and configd under faults, each determined by a seed.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run one seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run the seeds of a range, such as 1..1000 (without its end).
    #[arg(long)]
    seeds: Option<Seeds>,
    /// Number of nodes; by default each seed has its own, 2 to 7.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=32))]
    nodes: Option<u32>,
    /// How many seeds run at a time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Print a line per event.
    #[arg(long, short)]
    verbose: bool,
    /// Go on after a failure, and list all failing seeds.
    #[arg(long)]
    keep_going: bool,
    /// Let so many hours pass in a cluster with lossy links and no faults, and count the rings.
    #[arg(long, conflicts_with_all = ["seeds", "mutation", "verbose", "keep_going"])]
    calm_hours: Option<u32>,
    /// With --calm-hours: packets lost of a million.
    #[arg(long, default_value_t = 10_000, requires = "calm_hours")]
    loss: u32,
    /// Put a deliberate bug in.
    #[arg(long)]
    mutation: Option<Mutation>,
}

#[derive(Debug, Clone)]
struct Seeds(Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("..").ok_or("a range looks like 1..1000")?;
        let number = |text: &str| text.parse().map_err(|_| format!("'{text}' is no number"));
        Ok(Self(number(from)?..number(to)?))
    }
}

/// Sums over all runs.
#[derive(Debug, Default)]
struct Totals {
    seeds: AtomicU64,
    simulated_ms: AtomicU64,
    events: AtomicU64,
    acknowledged: AtomicU64,
    delivered: AtomicU64,
    rings: AtomicU64,
    /// Seeds in which the numbers of messages, of tokens and of rings went past their end.
    wrapped: [AtomicU64; 3],
    healed_ms_max: AtomicU64,
}

impl Totals {
    fn add(&self, report: &Report) {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.seeds.fetch_add(1, Ordering::Relaxed);
        self.simulated_ms.fetch_add(millis(report.simulated), Ordering::Relaxed);
        self.events.fetch_add(report.events, Ordering::Relaxed);
        self.acknowledged.fetch_add(report.tally.acknowledged, Ordering::Relaxed);
        self.delivered.fetch_add(report.tally.delivered, Ordering::Relaxed);
        self.rings.fetch_add(report.tally.rings, Ordering::Relaxed);
        let Tally { message_wraps, token_wraps, ring_wraps, .. } = report.tally;
        for (counter, wraps) in self.wrapped.iter().zip([message_wraps, token_wraps, ring_wraps]) {
            counter.fetch_add(u64::from(wraps > 0), Ordering::Relaxed);
        }
        let healed = report.healed_after.map_or(0, millis);
        self.healed_ms_max.fetch_max(healed, Ordering::Relaxed);
    }

    /// One line: how far, how fast.
    fn print_progress(&self, of: u64, elapsed: Duration) {
        let (seeds, seconds) = (self.seeds.load(Ordering::Relaxed), elapsed.as_secs_f64().max(0.001));
        let rate = seeds as f64 / seconds;
        let left = of.saturating_sub(seeds) as f64 / rate.max(0.001);
        println!(
            "{seeds} of {of} seeds in {seconds:.0} s: {rate:.1} seeds/s, {:.3} simulated hours per second, {left:.0} s to go",
            self.hours() / seconds,
        );
    }

    fn print_summary(&self, elapsed: Duration) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (seeds, hours) = (read(&self.seeds), self.hours());
        let seconds = elapsed.as_secs_f64().max(0.001);
        println!(
            "{seeds} seeds, {hours:.1} simulated hours in {seconds:.1} s: {:.1} seeds/s, {:.3} simulated hours per second",
            seeds as f64 / seconds,
            hours / seconds,
        );
        println!(
            "{} events, {} rings installed, {} messages delivered, {} writes acknowledged; slowest recovery {:.1} s",
            read(&self.events),
            read(&self.rings),
            read(&self.delivered),
            read(&self.acknowledged),
            read(&self.healed_ms_max) as f64 / 1000.0,
        );
        let [messages, tokens, rings] = self.wrapped.each_ref().map(read);
        println!(
            "past their end went the numbers of messages in {messages} seeds, tokens {tokens}, rings {rings}"
        );
    }

    fn hours(&self) -> f64 {
        self.simulated_ms.load(Ordering::Relaxed) as f64 / 3_600_000.0
    }
}

fn print_failure(report: &Report, nodes: Option<u32>, mutation: Option<Mutation>) {
    for line in report.tail.iter().chain(&report.at_end) {
        println!("{line}");
    }
    if let Some((at, violation)) = &report.violation {
        println!("FAILED seed {}: after {:.6} s: {violation}", report.seed, at.as_secs_f64());
    }
    println!("{} nodes, trace hash {:016x} after {} events", report.nodes, report.hash, report.events);
    let nodes = nodes.map(|nodes| format!(" --nodes {nodes}")).unwrap_or_default();
    let mutation = mutation.map(|mutation| format!(" --mutation {mutation:?}")).unwrap_or_default();
    println!("replay: simulate --seed {}{nodes}{mutation} --verbose", report.seed);
}

fn run_one(arguments: &Arguments, seed: u64) -> ExitCode {
    let lines = if arguments.verbose { Lines::Print } else { Lines::Off };
    if arguments.verbose {
        let setup = Setup::generate(seed, arguments.nodes);
        println!("{:?}\n{:?} {:?}\n{:?}", setup.params, setup.votes, setup.quorum, setup.profile);
    }
    let Arguments { nodes, mutation, .. } = *arguments;
    let begin = Instant::now();
    let report = run_caught(Options { seed, nodes, lines, mutation });
    if report.violation.is_some() {
        print_failure(&report, nodes, mutation);
        return ExitCode::FAILURE;
    }
    println!(
        "seed {seed} passed: {} nodes, {:.1} s simulated in {:.3} s, recovered after {:.3} s, trace hash {:016x}, {} events, {:?}",
        report.nodes,
        report.simulated.as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        report.healed_after.unwrap_or_default().as_secs_f64(),
        report.hash,
        report.events,
        report.tally,
    );
    ExitCode::SUCCESS
}

fn run_many(arguments: &Arguments, seeds: &Range<u64>) -> ExitCode {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let (totals, failures) = (Totals::default(), Mutex::new(Vec::<Report>::new()));
    let Arguments { nodes, mutation, keep_going, .. } = *arguments;
    let begin = Instant::now();
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let report = run_caught(Options { seed, nodes, lines: Lines::Off, mutation });
            totals.add(&report);
            if let Some((at, violation)) = &report.violation {
                println!("seed {seed} failed after {:.6} s: {violation}", at.as_secs_f64());
                stop.fetch_or(!keep_going, Ordering::Relaxed);
                failures.lock().expect("no thread panics while it holds the list").push(report);
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let mut last = begin;
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::park_timeout(Duration::from_millis(20));
            if last.elapsed() >= PROGRESS {
                last = Instant::now();
                totals.print_progress(seeds.end.saturating_sub(seeds.start), begin.elapsed());
            }
        }
    });
    totals.print_summary(begin.elapsed());
    let mut failures = failures.into_inner().expect("all threads have ended");
    failures.sort_by_key(|report| report.seed);
    let Some(first) = failures.first() else { return ExitCode::SUCCESS };
    println!("{} seeds failed, the first one:", failures.len());
    let again = run_caught(Options { seed: first.seed, nodes, lines: Lines::Tail, mutation });
    print_failure(&again, nodes, mutation);
    ExitCode::FAILURE
}

fn run_calm(arguments: &Arguments, hours: u32) -> ExitCode {
    let (nodes, seed) = (arguments.nodes.unwrap_or(3), arguments.seed.unwrap_or(1));
    let begin = Instant::now();
    let calm = calm::run(seed, nodes, arguments.loss, hours, |calm| {
        println!("{calm} in {:.0} s", begin.elapsed().as_secs_f64());
    });
    if let Some(violation) = &calm.violation {
        println!("FAILED: {violation}");
    }
    if calm.violation.is_none() && calm.false_alarms == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(hours) = arguments.calm_hours {
        return run_calm(&arguments, hours);
    }
    match (arguments.seed, &arguments.seeds) {
        (_, Some(Seeds(seeds))) => run_many(&arguments, seeds),
        (seed, None) => run_one(&arguments, seed.unwrap_or(1)),
    }
}
