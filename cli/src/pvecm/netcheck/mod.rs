//! `pvecm netcheck`: is this network good enough for a cluster? What `omping` was used for.
//!
//! It needs no cluster and no daemon: started with the same addresses on all nodes, each finds itself among them,
//! probes the others and answers them. There is no secret before there is a cluster: the datagrams are not
//! authenticated. They carry a hash of the list of addresses, only listed addresses are answered, no answer is longer
//! than its question, and the rate of answers is bounded.
//!
//! - `check.rs`: one node's check, without sockets and clocks
//! - `datagram.rs`: encode and decode
//! - `summary.rs`: samples of one way, and their summary
//! - `mtu.rs`: the search for the MTU
//! - `verdict.rs`, `report.rs`: limits, capacity; JSON and text
//! - `driver.rs`: the sockets, the clock, the progress
//!
//! Source: the two commands with `omping` of the user's document: `-c 10000 -i 0.001 -F -q` and `-c 600 -i 1 -q`.

mod check;
mod datagram;
mod driver;
mod mtu;
mod report;
mod summary;
mod verdict;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use self::{
    check::Plan,
    driver::Places,
    report::Report,
    verdict::{Limits, Verdict},
};
use crate::{
    error::Error,
    exit::Exit,
    number::positive,
    output::Output,
    time::{DurationError, parse_duration},
};

/// Nodes in one check: one bit each in a hello.
const NODES_MAX: usize = 64;
/// Probes to one peer: a bit of memory each.
const COUNT_MAX: u32 = 10_000_000;
/// Probes and interval of a burst, and of a soak.
const BURST: (u32, Duration) = (10_000, Duration::from_millis(1));
const SOAK: (u32, Duration) = (600, Duration::from_secs(1));
/// Bytes of the headers of IP and UDP.
const OVERHEAD: [u32; 2] = [28, 48];

/// Checks whether the network between these addresses is good enough for a cluster.
///
/// Start the same command, with the same addresses, on all nodes: each finds its own address among them, waits for the
/// others, probes them and answers them, by unicast and by multicast. All print the same table of all pairs: loss,
/// round trip, jitter, rate, MTU and clock skew, with a verdict and the number of nodes such a network carries.
/// Needs no cluster and no daemon. Ctrl-C ends the probes early.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm netcheck 10.0.0.1 10.0.0.2 10.0.0.3           10000 packets at 1 ms
  pvecm netcheck 10.0.0.1 10.0.0.2 10.0.0.3 --soak    600 packets at 1 s: switches that forget the group

Exit status: 0 if every pair passes by unicast, 2 if one does not, 255 if nothing could be measured.")]
pub(crate) struct Args {
    /// Addresses of all nodes, this one included
    #[arg(required = true, num_args = 2..=NODES_MAX, value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// Which of the addresses is this node's, if several are
    #[arg(long, value_name = "ADDRESS")]
    local: Option<IpAddr>,
    /// UDP port, the same on all nodes
    #[arg(long, default_value_t = 4321, value_parser = clap::value_parser!(u16).range(1..), value_name = "PORT")]
    port: u16,
    /// Multicast group, the same on all nodes
    #[arg(long, default_value = "239.192.43.21", value_name = "ADDRESS")]
    group: Ipv4Addr,
    /// Probes to each node [default: 10000; with --soak: 600]
    #[arg(long, value_parser = positive, value_name = "COUNT")]
    count: Option<u32>,
    /// Time between two probes to a node, 1ms or more [default: 1ms; with --soak: 1s]
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    interval: Option<Duration>,
    /// For ten minutes, one probe a second
    #[arg(long)]
    soak: bool,
    /// Longest time to wait for the other nodes to appear
    #[arg(long, value_parser = duration, default_value = "2m", value_name = "DURATION")]
    wait: Duration,
    /// Loss that fails, in percent
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT")]
    loss_limit: f64,
    /// Round trip that fails, average or 99th percentile
    #[arg(long, value_parser = duration, default_value = "2ms", value_name = "DURATION")]
    rtt_limit: Duration,
}

fn duration(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text)
}

pub(super) fn run(args: &Args, out: &mut Output<'_>) -> Result<Exit, Error> {
    let places = args.places()?;
    let plan = args.plan(&places)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Start(error.into()))?;
    let check = runtime.block_on(driver::run(&places, plan)).map_err(|source| Error::Probe {
        address: SocketAddr::new(places.nodes[usize::from(places.me)], places.port),
        source,
    })?;
    let limits = Limits { loss_percent: args.loss_limit, rtt_ms: args.rtt_limit.as_secs_f64() * 1000.0 };
    let report = Report::new(&places.nodes, places.me, &check.rows(), limits, check.dropped());
    out.answer(&report, || report.text())?;
    Ok(if report.verdict == Verdict::Pass { Exit::Success } else { Exit::Unfit })
}

impl Args {
    /// Who is where; all mistakes at once.
    fn places(&self) -> Result<Places, Error> {
        let mut nodes = self.addresses.clone();
        nodes.sort_unstable();
        let mut problems = Vec::new();
        if nodes.windows(2).any(|pair| pair[0] == pair[1]) {
            problems.push("addresses: one of them is there twice".to_owned());
        }
        if nodes.windows(2).any(|pair| pair[0].is_ipv4() != pair[1].is_ipv4()) {
            problems.push("addresses: IPv4 and IPv6 cannot be mixed".to_owned());
        }
        if !self.group.is_multicast() {
            problems.push(format!("group: {} is no multicast address", self.group));
        }
        if !(self.loss_limit > 0.0 && self.loss_limit <= 100.0) {
            problems.push("loss-limit: more than 0 and at most 100".to_owned());
        }
        let own: Vec<IpAddr> = match self.local {
            Some(local) => vec![local],
            None => nodes.iter().filter(|address| is_own(**address)).copied().collect(),
        };
        let place = match own[..] {
            [local] => nodes.binary_search(&local).ok().and_then(|place| u8::try_from(place).ok()),
            _ => None,
        };
        match (place, own.len()) {
            (Some(me), _) if problems.is_empty() => {
                let group = nodes[0].is_ipv4().then_some(self.group);
                return Ok(Places { nodes, me, port: self.port, group });
            }
            (Some(_), _) => {}
            (None, 0) => problems.push("addresses: none of them is an address of this node".to_owned()),
            (None, 1) => problems.push("local: it is not among the addresses".to_owned()),
            (None, _) => {
                problems.push("addresses: several are of this node; say which with --local".to_owned())
            }
        }
        Err(Error::Parameters(problems))
    }

    fn plan(&self, places: &Places) -> Result<Plan, Error> {
        let (count, interval) = if self.soak { SOAK } else { BURST };
        let count = self.count.unwrap_or(count);
        if count > COUNT_MAX {
            return Err(Error::Parameters(vec![format!("count: at most {COUNT_MAX}")]));
        }
        let nodes = u8::try_from(places.nodes.len()).expect("clap has counted the addresses");
        Ok(Plan {
            run: run_id(places),
            nodes,
            me: places.me,
            count,
            interval: self.interval.unwrap_or(interval),
            wait: self.wait,
            multicast: places.group.is_some(),
            overhead: OVERHEAD[usize::from(places.nodes[0].is_ipv6())],
        })
    }
}

/// Whether this node has the address: then the kernel would speak to it from itself. To bind it proves nothing where
/// `net.ipv4.ip_nonlocal_bind` is set. Sends nothing.
fn is_own(address: IpAddr) -> bool {
    let any =
        if address.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = || -> io::Result<SocketAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    address.is_loopback() || source().is_ok_and(|source| source.ip() == address)
}

/// A hash of all that the nodes must agree on: FNV-1a over addresses, port and group.
fn run_id(places: &Places) -> u64 {
    let nodes = places.nodes.iter().map(ToString::to_string);
    let text =
        nodes.chain([places.port.to_string(), format!("{:?}", places.group)]).collect::<Vec<_>>().join(" ");
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn args(line: &str) -> Args {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        Line::try_parse_from(line.split(' ')).unwrap().args
    }

    fn problem(line: &str) -> String {
        args(line).places().unwrap_err().report().details.join("; ")
    }

    #[test]
    fn the_defaults_are_those_of_the_two_ompings() {
        let plan = |line: &str| {
            let args = args(line);
            args.plan(&args.places().unwrap()).unwrap()
        };
        let burst = plan("netcheck 127.0.0.1 198.51.100.1");
        assert_eq!((burst.count, burst.interval), (10_000, Duration::from_millis(1)));
        let soak = plan("netcheck 127.0.0.1 198.51.100.1 --soak");
        assert_eq!(soak.interval * soak.count, Duration::from_secs(600));
    }

    #[test]
    fn a_node_finds_itself_and_the_order_of_the_addresses_does_not_matter() {
        let one = args("netcheck 198.51.100.1 127.0.0.1").places().unwrap();
        let other = args("netcheck 127.0.0.1 198.51.100.1").places().unwrap();
        assert_eq!((one.me, run_id(&one)), (other.me, run_id(&other)));
        assert_eq!(one.nodes[usize::from(one.me)], IpAddr::from([127, 0, 0, 1]));
        let third = args("netcheck 127.0.0.1 198.51.100.2").places().unwrap();
        assert_ne!(run_id(&one), run_id(&third));
    }

    #[test]
    fn lists_that_make_no_sense_are_refused_with_the_reason() {
        assert!(problem("netcheck 198.51.100.1 198.51.100.2").contains("none of them"));
        assert!(problem("netcheck 127.0.0.1 127.0.0.2").contains("--local"));
        assert!(problem("netcheck 127.0.0.1 198.51.100.1 --local 198.51.100.9").contains("not among"));
        assert!(problem("netcheck 127.0.0.1 127.0.0.1 --local 127.0.0.1").contains("twice"));
        assert!(problem("netcheck 127.0.0.1 ::2 --group 10.0.0.1").contains("mixed"));
    }
}
