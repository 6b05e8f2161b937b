//! The addresses of this node's links: what the operator named becomes addresses of this machine.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use crate::refusal::Checks;

/// How long a name may take to be resolved.
const LOOKUP: Duration = Duration::from_secs(5);

/// Turns names into addresses and checks that each is one of this machine's. With nothing named the
/// node's own address is the only one.
pub async fn resolve(
    named: &[String],
    own: IpAddr,
    checks: &mut Checks,
    warnings: &mut Vec<String>,
) -> Vec<IpAddr> {
    let named = if named.is_empty() { vec![own.to_string()] } else { named.to_vec() };
    let mut addresses = Vec::new();
    for name in &named {
        let Some(address) = lookup(name, own, checks, warnings).await else { continue };
        if let Err(why) = is_local(address) {
            let description = format!(
                "address {address} is not configured on an interface of this node ({why}); give one that is"
            );
            checks.fail("ADDRESS_NOT_LOCAL", name, description);
        }
        addresses.push(address);
    }
    addresses
}

async fn lookup(name: &str, own: IpAddr, checks: &mut Checks, warnings: &mut Vec<String>) -> Option<IpAddr> {
    if let Ok(address) = name.parse() {
        return Some(address);
    }
    let found = match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((name, 0))).await {
        Ok(Ok(found)) => found.map(|found| found.ip()).collect::<Vec<_>>(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    let same_family = found.iter().find(|address| address.is_ipv4() == own.is_ipv4());
    let address = same_family.or(found.first()).copied();
    match address {
        Some(address) => warnings.push(format!(
            "'{name}' was written to corosync.conf as {address}: the ring must not depend on a resolver"
        )),
        None => checks.fail(
            "ADDRESS_UNRESOLVABLE",
            name,
            format!("'{name}' is no IP address and does not resolve; give an IP address"),
        ),
    }
    address
}

/// Whether the address belongs to this machine: only then a socket can be bound to it. Unlike a look at
/// the list of interfaces this holds for every address of 127.0.0.0/8, too.
fn is_local(address: IpAddr) -> Result<(), std::io::Error> {
    UdpSocket::bind(SocketAddr::new(address, 0)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> IpAddr {
        "127.0.0.1".parse().unwrap()
    }

    async fn resolved(named: &[&str]) -> (Vec<IpAddr>, Checks, Vec<String>) {
        let named: Vec<String> = named.iter().map(ToString::to_string).collect();
        let (mut checks, mut warnings) = (Checks::default(), Vec::new());
        let addresses = resolve(&named, own(), &mut checks, &mut warnings).await;
        (addresses, checks, warnings)
    }

    #[tokio::test]
    async fn nothing_named_means_the_nodes_own_address() {
        let (addresses, checks, warnings) = resolved(&[]).await;
        assert_eq!(addresses, [own()]);
        assert!(checks.finish("x").is_ok() && warnings.is_empty());
    }

    #[tokio::test]
    async fn every_loopback_address_is_local_and_a_foreign_one_is_not() {
        let (_, checks, _) = resolved(&["127.0.0.77"]).await;
        assert!(checks.finish("x").is_ok());
        let (_, checks, _) = resolved(&["192.0.2.1"]).await;
        assert!(checks.has("ADDRESS_NOT_LOCAL"));
    }

    #[tokio::test]
    async fn a_name_becomes_an_address_with_a_warning() {
        let (addresses, checks, warnings) = resolved(&["localhost"]).await;
        assert_eq!(addresses, [own()]);
        assert!(checks.finish("x").is_ok());
        assert_eq!(warnings.len(), 1);
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_refused() {
        let (addresses, checks, _) = resolved(&["no-such-host.invalid"]).await;
        assert!(addresses.is_empty());
        assert!(checks.has("ADDRESS_UNRESOLVABLE"));
    }
}
