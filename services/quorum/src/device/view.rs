//! The quorum device as the API shows it.

use quorate_proto::quorum::v1::{QuorumDevice, quorum_device::Vote};
use quorum_core::{DeviceVote, Flags, Status as Count, message::NodeFlags};

use super::Device;
use crate::config::Role;

/// The device of this node; `None` if none is configured.
pub(crate) fn device_status(
    role: &Role,
    device: Option<&Device>,
    count: Option<&Count>,
) -> Option<QuorumDevice> {
    let Role::Node(cluster) = role else { return None };
    let configured = cluster.conf.quorum.device.as_ref()?;
    // What counts, not what the client has just heard.
    let counted = count.and_then(|count| count.device);
    let votes = counted.map_or(0, |device| device.votes);
    let vote = match counted.map(|device| device.vote).unwrap_or_default() {
        DeviceVote::Unreachable => Vote::Unreachable,
        DeviceVote::Undecided => Vote::Undecided,
        DeviceVote::Granted => Vote::Granted,
        DeviceVote::Refused => Vote::Refused,
    };
    let Some((net, device)) = configured.net.as_ref().zip(device) else {
        let error = "quorum.device needs model net and net.host in corosync.conf".to_owned();
        return Some(QuorumDevice { votes, vote: vote.into(), error, ..QuorumDevice::default() });
    };
    let summary = device.client.summary();
    Some(QuorumDevice {
        host: net.host.clone(),
        port: net.port.into(),
        algorithm: net.algorithm.as_str().to_owned(),
        votes,
        vote: vote.into(),
        encrypted: summary.encrypted,
        error: summary.error,
    })
}

/// What a node says about its device, as corosync-quorumtool prints it; empty while no member has one.
pub(crate) fn column(flags: NodeFlags, ring: Flags) -> String {
    if !ring.qdevice {
        return String::new();
    }
    if !flags.has(NodeFlags::QDEVICE_REGISTERED) {
        return "NR".to_owned();
    }
    let word = |flag, yes, no| if flags.has(flag) { yes } else { no };
    let alive = word(NodeFlags::QDEVICE_ALIVE, "A", "NA");
    let vote = word(NodeFlags::QDEVICE_CAST_VOTE, "V", "NV");
    let master = word(NodeFlags::QDEVICE_MASTER_WINS, "MW", "NMW");
    format!("{alive},{vote},{master}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_has_the_words_of_corosync() {
        let ring = Flags { qdevice: true, ..Flags::default() };
        for (bits, text) in
            [(0, "NR"), (1, "NR"), (16, "NA,NV,NMW"), (48, "A,NV,NMW"), (112, "A,V,NMW"), (240, "A,V,MW")]
        {
            assert_eq!(column(NodeFlags::from_bits(bits), ring), text);
        }
        assert_eq!(column(NodeFlags::from_bits(112), Flags::default()), "");
    }
}
