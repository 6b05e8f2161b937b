//! Asking every node of the cluster what it finds.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use quorate_daemon::{client::deadline, telemetry::chain};
use quorate_proto::gateway::v1::{
    ExamineNodeRequest, NodeFacts, diagnostics_service_client::DiagnosticsServiceClient,
};

use super::{
    facts,
    judge::{Answer, Clock, Examined},
};
use crate::{
    health::NodeHealth,
    life_cycle::{ThisNode, token::gateway_of},
    member,
    roster::Roster,
    tls,
};

/// How long a node may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What every configured node says; this node alone if it is in no cluster.
pub(super) async fn all(node: &ThisNode, roster: &Roster, health: &NodeHealth) -> Vec<Examined> {
    let conf = roster.conf().await;
    let own = node.name.as_str();
    let others: Vec<(String, Vec<String>)> = conf
        .iter()
        .flat_map(|conf| &conf.nodes)
        .filter(|other| other.name.as_str() != own)
        .map(|other| (other.name.to_string(), other.addresses.values().cloned().collect()))
        .collect();
    let listed = conf.as_ref().and_then(|conf| conf.node_named(own));
    let addresses = listed.map(|node| node.addresses.values().cloned().collect()).unwrap_or_default();
    let here = async {
        let facts = facts::collect(node, health).await;
        Examined { name: own.to_owned(), addresses, answer: Ok(Answer { facts, clock: None }) }
    };
    let there = join_all(others.into_iter().map(|(name, addresses)| async move {
        let answer = ask(node, &name, &addresses).await;
        Examined { name, addresses, answer }
    }));
    let (here, mut examined) = tokio::join!(here, there);
    examined.push(here);
    examined
}

/// What another node says, or why it says nothing.
async fn ask(node: &ThisNode, name: &str, addresses: &[String]) -> Result<Answer, String> {
    let known = gateway_of(&node.tree, name).await;
    let address = known.or_else(|| addresses.first().map(|address| member::with_port(address)));
    let address = address.ok_or("it has no address in corosync.conf")?;
    let identity = node.identity.current();
    let authority = identity.ca_fingerprint().ok_or("this node has no certificate of the cluster")?;
    let config = tls::client_config(authority, Some(&identity)).map_err(|error| chain(&error))?;
    let channel = member::connect(&address, config, node.patience.dial).await;
    let channel = channel.map_err(|error| chain(&error))?;
    let sent = SystemTime::now();
    let mut gateway = DiagnosticsServiceClient::new(channel);
    let answer = gateway.examine_node(deadline(ExamineNodeRequest {}, LIMIT)).await;
    let answer = answer.map_err(|status| status.message().to_owned())?;
    let arrived = SystemTime::now();
    let facts = answer.into_inner().facts.unwrap_or_default();
    let clock = clock(&facts, sent, arrived);
    Ok(Answer { facts, clock })
}

/// How far its clock is from this node's, as NTP reckons it; `None` if it told no times.
fn clock(facts: &NodeFacts, sent: SystemTime, arrived: SystemTime) -> Option<Clock> {
    let received = SystemTime::try_from(facts.received?).ok()?;
    let answered = SystemTime::try_from(facts.answered?).ok()?;
    let ahead = f64::midpoint(seconds(received, sent), seconds(answered, arrived));
    let error = (seconds(arrived, sent) - seconds(answered, received)).max(0.0) / 2.0;
    Some(Clock { ahead, error })
}

/// Seconds from `from` to `to`, below zero if it is before.
fn seconds(to: SystemTime, from: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_without_the_time_that_the_node_took() {
        let at = |milliseconds: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        // Ten ms there, 500 ms of work, ten ms back; its clock is three seconds ahead.
        let facts = NodeFacts {
            received: Some(at(13_010).into()),
            answered: Some(at(13_510).into()),
            ..NodeFacts::default()
        };
        let clock = clock(&facts, at(10_000), at(10_520)).unwrap();
        assert!((clock.ahead - 3.0).abs() < 1e-6 && (clock.error - 0.01).abs() < 1e-6, "{clock:?}");
    }
}
