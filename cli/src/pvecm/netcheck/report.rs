//! What is printed: the document of `-o json`, and the text. Fields are only added.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use serde::Serialize;

use super::{
    check::Dropped,
    summary::{Row, Summary},
    verdict::{Capacity, Limits, Verdict, milliseconds},
};
use crate::output::columns;

/// The document of `pvecm netcheck -o json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Of unicast, over all pairs.
    pub(super) verdict: Verdict,
    /// Of multicast, over all pairs; absent if it was not measured.
    multicast_verdict: Option<Verdict>,
    /// The address of this node.
    local: IpAddr,
    /// All addresses, sorted.
    nodes: Vec<IpAddr>,
    limits: Limits,
    /// Each way that was, or should have been, measured.
    pairs: Vec<Pair>,
    /// Absent if no unicast probe was answered.
    capacity: Option<Capacity>,
    /// Datagrams that this node did not use.
    dropped: Dropped,
}

/// What one node has measured of another.
#[derive(Debug, Serialize)]
struct Pair {
    from: IpAddr,
    to: IpAddr,
    /// Of unicast.
    verdict: Verdict,
    /// What does not keep to the limits by unicast.
    reasons: Vec<String>,
    /// Largest IP packet that passes unfragmented, in bytes; absent if unknown.
    mtu: Option<u32>,
    /// Absent if the peer did not appear, or if `from` did not tell.
    unicast: Option<Way>,
    multicast_verdict: Option<Verdict>,
    /// What does not keep to the limits by multicast.
    multicast_reasons: Vec<String>,
    multicast: Option<Way>,
}

/// One way, in the units of the document. Times are absent if nothing came back.
#[derive(Debug, Serialize)]
struct Way {
    sent: u32,
    received: u32,
    loss_percent: f64,
    duplicates: u32,
    reordered: u32,
    rtt_min_ms: Option<f64>,
    rtt_mean_ms: Option<f64>,
    rtt_p50_ms: Option<f64>,
    rtt_p99_ms: Option<f64>,
    rtt_max_ms: Option<f64>,
    jitter_ms: Option<f64>,
    /// How far the clock of `to` is ahead of that of `from`.
    clock_skew_ms: Option<f64>,
    packets_per_second: u32,
}

impl Way {
    fn new(summary: &Summary) -> Self {
        let known = |time: f64| (summary.received > 0).then_some(time);
        let time = |nanoseconds: u64| known(milliseconds(nanoseconds));
        let skew = milliseconds(summary.skew.unsigned_abs());
        Self {
            sent: summary.sent,
            received: summary.received,
            loss_percent: summary.loss_percent(),
            duplicates: summary.duplicates,
            reordered: summary.reordered,
            rtt_min_ms: time(summary.rtt_min),
            rtt_mean_ms: time(summary.rtt_mean),
            rtt_p50_ms: time(summary.rtt_p50),
            rtt_p99_ms: time(summary.rtt_p99),
            rtt_max_ms: time(summary.rtt_max),
            jitter_ms: time(summary.jitter),
            clock_skew_ms: known(if summary.skew < 0 { -skew } else { skew }),
            packets_per_second: summary.rate,
        }
    }

    fn cells(&self) -> Vec<String> {
        let time = |time: Option<f64>| time.map_or_else(|| "-".into(), |time| format!("{time:.3}"));
        let mut cells =
            vec![self.sent.to_string(), self.received.to_string(), format!("{:.2}", self.loss_percent)];
        cells.push(self.duplicates.to_string());
        let times = [self.rtt_min_ms, self.rtt_p50_ms, self.rtt_p99_ms, self.rtt_max_ms, self.jitter_ms];
        cells.extend(times.map(time));
        cells.push(self.packets_per_second.to_string());
        cells.push(time(self.clock_skew_ms));
        cells
    }
}

impl Pair {
    fn new(from: IpAddr, to: IpAddr, row: Option<&Row>, limits: Limits) -> Self {
        let reached = row.filter(|row| row.is_reached);
        let reasons = match (row, reached) {
            (None, _) => vec![format!("{from} did not tell what it measured")],
            (Some(_), None) => vec![format!("{to} did not appear")],
            (_, Some(row)) => limits.broken_by(&row.unicast),
        };
        let multicast = reached.and_then(|row| row.multicast.as_ref());
        let multicast_reasons = multicast.map_or_else(Vec::new, |way| limits.broken_by(way));
        Self {
            from,
            to,
            verdict: Verdict::of(reasons.is_empty()),
            reasons,
            mtu: reached.map(|row| row.mtu).filter(|&mtu| mtu > 0),
            unicast: reached.map(|row| Way::new(&row.unicast)),
            multicast_verdict: multicast.map(|_| Verdict::of(multicast_reasons.is_empty())),
            multicast_reasons,
            multicast: multicast.map(Way::new),
        }
    }
}

impl Report {
    /// The report of one node from all rows that it knows.
    pub(super) fn new(
        nodes: &[IpAddr],
        me: u8,
        rows: &BTreeMap<(u8, u8), Row>,
        limits: Limits,
        dropped: Dropped,
    ) -> Self {
        let places = || (0u8..).zip(nodes.iter().copied());
        let ways = places().flat_map(|from| places().map(move |to| (from, to)));
        let pairs = ways
            .filter(|(from, to)| from != to)
            .map(|((from, source), (to, target))| Pair::new(source, target, rows.get(&(from, to)), limits));
        let pairs: Vec<Pair> = pairs.collect();
        let multicast = pairs.iter().filter_map(|pair| pair.multicast_verdict);
        let multicast: Vec<Verdict> = multicast.collect();
        let passes = |verdict: &Verdict| *verdict == Verdict::Pass;
        let answered = rows.values().map(|row| &row.unicast).filter(|way| way.received > 0);
        Self {
            verdict: Verdict::of(pairs.iter().all(|pair| passes(&pair.verdict))),
            multicast_verdict: (!multicast.is_empty()).then(|| Verdict::of(multicast.iter().all(passes))),
            local: nodes[usize::from(me)],
            nodes: nodes.to_vec(),
            limits,
            pairs,
            capacity: Capacity::of(answered),
            dropped,
        }
    }

    /// The text for people: a table of all pairs, what breaks the limits, the verdicts.
    pub(super) fn text(&self) -> String {
        let heads = [
            "FROM", "TO", "CAST", "SENT", "RECV", "LOSS%", "DUP", "MIN", "P50", "P99", "MAX", "JITTER",
            "PKT/S", "SKEW", "MTU", "VERDICT",
        ];
        let mut table = vec![heads.map(str::to_owned).to_vec()];
        table.extend(self.pairs.iter().flat_map(rows_of));
        let mut text = columns(&table);
        text.push_str(
            "times in ms: MIN to MAX of the round trip; SKEW: how far the clock of TO is ahead\n\n",
        );
        for pair in &self.pairs {
            for reason in &pair.reasons {
                let _ = writeln!(text, "FAIL {} -> {}: {reason}", pair.from, pair.to);
            }
            for reason in &pair.multicast_reasons {
                let _ = writeln!(text, "FAIL {} -> {} by multicast: {reason}", pair.from, pair.to);
            }
        }
        let Limits { loss_percent, rtt_ms } = self.limits;
        let limits = format!(
            "loss below {loss_percent} %, round trip below {rtt_ms} ms (average and 99th percentile)"
        );
        let _ = writeln!(text, "unicast:   {} ({limits})", self.verdict.word());
        text.push_str(&self.multicast_text());
        if let Some(capacity) = self.capacity {
            let Capacity { nodes, hop_ms, rotation_max_ms, .. } = capacity;
            let _ = writeln!(
                text,
                "capacity:  up to {nodes} nodes by the rotation of the token ({hop_ms:.3} ms a node, {rotation_max_ms} ms a rotation)"
            );
        }
        text.push_str(&self.dropped_text());
        text
    }

    fn multicast_text(&self) -> String {
        match self.multicast_verdict {
            None => return "multicast: not measured\n".to_owned(),
            Some(Verdict::Pass) => return "multicast: PASS\n".to_owned(),
            Some(Verdict::Fail) => {}
        }
        let ways: Vec<&Way> = self.pairs.iter().filter_map(|pair| pair.multicast.as_ref()).collect();
        let silent = ways.iter().filter(|way| way.received == 0).count();
        let why = match silent {
            0 => String::new(),
            _ => format!(
                "; nothing arrives on {silent} of {} ways: is it enabled on the switch, and is there an IGMP querier?",
                ways.len()
            ),
        };
        format!("multicast: FAIL (knet and udpu need no multicast{why})\n")
    }

    fn dropped_text(&self) -> String {
        let Dropped { foreign, malformed, other_run, unasked, too_many } = self.dropped;
        if self.dropped == Dropped::default() {
            return String::new();
        }
        format!(
            "dropped:   {foreign} foreign, {malformed} malformed, {other_run} with another list of addresses, {unasked} \
             unasked, {too_many} too many\n"
        )
    }
}

/// The lines of the table for one pair.
fn rows_of(pair: &Pair) -> Vec<Vec<String>> {
    let line = |cast: &str, way: Option<&Way>, mtu: Option<u32>, verdict: Verdict| {
        let mut cells = vec![pair.from.to_string(), pair.to.to_string(), cast.to_owned()];
        cells.extend(way.map_or_else(|| vec!["-".to_owned(); 11], Way::cells));
        cells.push(mtu.map_or_else(|| "-".to_owned(), |mtu| mtu.to_string()));
        cells.push(verdict.word().to_owned());
        cells
    };
    let mut rows = vec![line("uni", pair.unicast.as_ref(), pair.mtu, pair.verdict)];
    if let (Some(way), Some(verdict)) = (&pair.multicast, pair.multicast_verdict) {
        rows.push(line("multi", Some(way), None, verdict));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { loss_percent: 1.0, rtt_ms: 2.0 };

    fn report(change: impl FnOnce(&mut BTreeMap<(u8, u8), Row>)) -> Report {
        let nodes: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap()).to_vec();
        let way =
            Summary { sent: 100, received: 100, rtt_p99: 200_000, skew: -1_500_000, ..Summary::default() };
        let row = Row { is_reached: true, unicast: way, multicast: Some(way), mtu: 1500 };
        let mut rows = BTreeMap::from([((0, 1), row), ((1, 0), row)]);
        change(&mut rows);
        Report::new(&nodes, 0, &rows, LIMITS, Dropped::default())
    }

    #[test]
    fn a_good_network_passes_and_json_has_the_documented_fields() {
        let report = report(|_| {});
        assert_eq!(report.verdict, Verdict::Pass);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["multicast_verdict"], "pass");
        assert_eq!(json["pairs"][0]["unicast"]["clock_skew_ms"], -1.5);
        assert_eq!(json["pairs"][0]["mtu"], 1500);
        assert_eq!(json["capacity"]["nodes"], 324);
    }

    #[test]
    fn multicast_that_fails_does_not_fail_the_network() {
        let report = report(|rows| {
            rows.get_mut(&(0, 1)).unwrap().multicast = Some(Summary { sent: 100, ..Summary::default() });
        });
        assert_eq!((report.verdict, report.multicast_verdict), (Verdict::Pass, Some(Verdict::Fail)));
        let text = report.text();
        assert!(
            text.contains("FAIL 10.0.0.1 -> 10.0.0.2 by multicast: loss 100.00 % (100 of 100), limit 1 %"),
            "{text}"
        );
        assert!(text.contains("need no multicast; nothing arrives on 1 of 2 ways: is it enabled"), "{text}");
    }

    #[test]
    fn multicast_that_is_slow_is_not_said_to_be_blocked() {
        let report = report(|rows| {
            let way = rows.get_mut(&(0, 1)).unwrap().multicast.as_mut().unwrap();
            way.rtt_p99 = 3_000_000;
        });
        let text = report.text();
        assert!(
            text.contains("by multicast: 99th percentile of the round trip 3.000 ms, limit 2 ms"),
            "{text}"
        );
        assert!(text.contains("multicast: FAIL (knet and udpu need no multicast)\n"), "{text}");
    }

    #[test]
    fn a_pair_that_loses_one_that_is_absent_and_one_that_is_silent_are_told_apart() {
        let loses = report(|rows| rows.get_mut(&(0, 1)).unwrap().unicast.received = 95).text();
        assert!(loses.contains("FAIL 10.0.0.1 -> 10.0.0.2: loss 5.00 % (5 of 100), limit 1 %"), "{loses}");
        let absent = report(|rows| rows.get_mut(&(0, 1)).unwrap().is_reached = false).text();
        assert!(absent.contains("FAIL 10.0.0.1 -> 10.0.0.2: 10.0.0.2 did not appear"), "{absent}");
        let silent = report(|rows| rows.retain(|pair, _| *pair != (1, 0))).text();
        assert!(silent.contains("FAIL 10.0.0.2 -> 10.0.0.1: 10.0.0.2 did not tell"), "{silent}");
    }
}
