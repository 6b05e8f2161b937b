//! Runs seeds of the cluster simulator.

fn main() {
    let seed: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let to: u64 = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(seed + 1);
    for seed in seed..to {
        let lines = if std::env::args().nth(3).is_some() { simulator::trace::Lines::Print } else { simulator::trace::Lines::Tail };
        let t = std::time::Instant::now();
        let r = simulator::simulation::run(simulator::simulation::Options { seed, nodes: None, lines, mutation: None });
        println!("seed {} nodes {} hash {:016x} events {} sim {:.1}s healed {:?} real {:?} {}", r.seed, r.nodes, r.hash, r.events, r.simulated.as_secs_f64(), r.healed_after, t.elapsed(), r.violation.map(|(at, v)| format!("VIOLATION at {at:?} {v}")).unwrap_or_default());
    }
}
