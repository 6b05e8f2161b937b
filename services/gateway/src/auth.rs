//! Who may call what: one table over all methods, and everything that is not in it is refused. Nothing is open to
//! everybody, health and reflection neither.
//!
//! A test walks the descriptors of all services and fails on a method without a rule.

use quorate_daemon::{caller, status};
use quorate_types::NodeName;
use tonic::{Code, Status, transport::server::UdsConnectInfo};

use crate::token::{JoinToken, TokenRecord};

/// Who a method is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// This machine's operator: through the Unix socket, as its owner or root.
    Local,
    /// The operator, or a node of the cluster with its certificate.
    LocalOrNodeCertificate,
    /// A node of the cluster with its certificate, not the operator.
    NodeCertificate,
    /// The holder of a join token.
    JoinToken,
    /// The operator, a node of the cluster, or the holder of a join token.
    AnyAuthenticated,
}

/// Who calls, as far as it was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The operator, through the Unix socket.
    Local {
        /// The user.
        uid: u32,
    },
    /// A node of the cluster.
    Node {
        /// Its name.
        name: NodeName,
    },
    /// The holder of a token that is valid now.
    Joiner(Box<PresentedToken>),
    /// Nobody we know.
    Anonymous,
}

/// A token that was presented and found valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedToken {
    /// The token.
    pub token: JoinToken,
    /// What the tree knows of it.
    pub record: TokenRecord,
    /// The version of its file in the tree: whoever deletes that version has used the token.
    pub version: u64,
}

/// The rule of every method, by full service name and method.
const RULES: &[(&str, &[(&str, Rule)])] = {
    use Rule::{AnyAuthenticated, JoinToken, Local, LocalOrNodeCertificate, NodeCertificate};
    &[
        (
            "quorate.gateway.v1.ClusterService",
            &[
                ("CreateCluster", Local),
                ("JoinCluster", Local),
                ("CreateToken", LocalOrNodeCertificate),
                ("ListTokens", LocalOrNodeCertificate),
                ("RevokeToken", LocalOrNodeCertificate),
                ("AdmitNode", JoinToken),
                ("ConfirmNode", NodeCertificate),
                ("WithdrawNode", NodeCertificate),
                ("RemoveNode", LocalOrNodeCertificate),
                ("OverrideVotes", Local),
                ("UpdateCertificates", Local),
                ("ListRemovedNodes", LocalOrNodeCertificate),
                ("GetCluster", AnyAuthenticated),
                ("GetNode", LocalOrNodeCertificate),
            ],
        ),
        (
            "quorate.gateway.v1.DiagnosticsService",
            &[("ExamineNode", LocalOrNodeCertificate), ("ExamineCluster", LocalOrNodeCertificate)],
        ),
        (
            "quorate.config.v1.ConfigService",
            &[
                ("Get", LocalOrNodeCertificate),
                ("Put", LocalOrNodeCertificate),
                ("List", LocalOrNodeCertificate),
                ("Mkdir", LocalOrNodeCertificate),
                ("Rename", LocalOrNodeCertificate),
                ("Delete", LocalOrNodeCertificate),
                ("Transact", LocalOrNodeCertificate),
                ("Watch", LocalOrNodeCertificate),
                ("GetStatus", LocalOrNodeCertificate),
                ("Reload", Local),
            ],
        ),
        (
            "quorate.config.v1.StatusService",
            &[
                ("Publish", Local),
                ("Fetch", LocalOrNodeCertificate),
                ("AppendLog", Local),
                ("ReadLog", LocalOrNodeCertificate),
                ("ListGuests", LocalOrNodeCertificate),
                ("GetGuestProperties", LocalOrNodeCertificate),
                ("VerifyToken", LocalOrNodeCertificate),
                ("GetGenerated", LocalOrNodeCertificate),
            ],
        ),
        (
            "quorate.config.v1.HistoryService",
            &[
                ("ListVersions", LocalOrNodeCertificate),
                ("GetVersion", LocalOrNodeCertificate),
                ("Backup", LocalOrNodeCertificate),
                ("ListConflicts", LocalOrNodeCertificate),
                ("GetConflict", LocalOrNodeCertificate),
                ("DropConflict", Local),
            ],
        ),
        (
            "quorate.quorum.v1.QuorumService",
            &[
                ("GetStatus", LocalOrNodeCertificate),
                ("Watch", LocalOrNodeCertificate),
                ("SetExpected", Local),
                ("Reload", Local),
            ],
        ),
        (
            "quorate.membership.v1.MembershipService",
            &[
                ("GetStatus", LocalOrNodeCertificate),
                ("ListMembers", LocalOrNodeCertificate),
                ("ListLinks", LocalOrNodeCertificate),
                ("WatchConfigurations", LocalOrNodeCertificate),
                ("Group", Local),
                ("AttachService", Local),
                ("Reload", Local),
                ("CheckConfiguration", LocalOrNodeCertificate),
                ("Leave", Local),
            ],
        ),
        (
            "quorate.guest.v1.GuestService",
            &[
                ("List", LocalOrNodeCertificate),
                ("GetConfig", LocalOrNodeCertificate),
                ("Create", LocalOrNodeCertificate),
                ("SetConfig", LocalOrNodeCertificate),
                ("Start", LocalOrNodeCertificate),
                ("Shutdown", LocalOrNodeCertificate),
                ("Stop", LocalOrNodeCertificate),
                ("Reset", LocalOrNodeCertificate),
                ("Destroy", LocalOrNodeCertificate),
                ("Unlock", LocalOrNodeCertificate),
                ("GetStatus", LocalOrNodeCertificate),
                ("Watch", LocalOrNodeCertificate),
                ("Monitor", LocalOrNodeCertificate),
                ("Console", LocalOrNodeCertificate),
            ],
        ),
        (
            "quorate.guest.v1.MigrationSupportService",
            &[
                ("BeginMigration", Local),
                ("EndMigration", Local),
                ("StartIncoming", Local),
                ("StopIncoming", Local),
                ("Commit", Local),
                ("GetOwner", Local),
                ("Resume", Local),
                ("ReleaseSource", Local),
                ("Qmp", Local),
            ],
        ),
        (
            "quorate.guest.v1.StorageService",
            &[
                ("ListStorages", LocalOrNodeCertificate),
                ("ListVolumes", LocalOrNodeCertificate),
                ("GetVolume", LocalOrNodeCertificate),
                ("AllocateVolume", Local),
                ("FreeVolume", Local),
                ("ReadVolume", Local),
                ("WriteVolume", Local),
            ],
        ),
        (
            "quorate.migration.v1.MigrationService",
            &[
                ("Migrate", LocalOrNodeCertificate),
                ("Check", LocalOrNodeCertificate),
                ("Cancel", LocalOrNodeCertificate),
                ("List", LocalOrNodeCertificate),
            ],
        ),
        (
            "quorate.migration.v1.MigrationPeerService",
            &[
                ("Inspect", NodeCertificate),
                ("Receive", NodeCertificate),
                ("WriteVolume", NodeCertificate),
                ("Discard", NodeCertificate),
                ("Resume", NodeCertificate),
            ],
        ),
        ("grpc.health.v1.Health", &[("Check", AnyAuthenticated), ("Watch", AnyAuthenticated)]),
        ("grpc.reflection.v1.ServerReflection", &[("ServerReflectionInfo", AnyAuthenticated)]),
        ("grpc.reflection.v1alpha.ServerReflection", &[("ServerReflectionInfo", AnyAuthenticated)]),
    ]
};

/// The rule of a method; `None` if the method is not known, which means that nobody may call it.
#[must_use]
pub fn rule(service: &str, method: &str) -> Option<Rule> {
    let (_, methods) = RULES.iter().find(|(name, _)| *name == service)?;
    methods.iter().find(|(name, _)| *name == method).map(|(_, rule)| *rule)
}

/// Whether the caller may call what has this rule.
///
/// # Errors
/// UNAUTHENTICATED (reason `UNAUTHENTICATED`) for somebody unknown, PERMISSION_DENIED (reason
/// `PERMISSION_DENIED`) for somebody known who may not.
pub fn check(rule: Rule, caller: &Caller, method: &str) -> Result<(), Status> {
    let allowed = match rule {
        Rule::AnyAuthenticated => !matches!(caller, Caller::Anonymous),
        Rule::Local => matches!(caller, Caller::Local { .. }),
        Rule::LocalOrNodeCertificate => matches!(caller, Caller::Local { .. } | Caller::Node { .. }),
        Rule::NodeCertificate => matches!(caller, Caller::Node { .. }),
        Rule::JoinToken => matches!(caller, Caller::Joiner(_)),
    };
    if allowed {
        return Ok(());
    }
    let needed = needed(rule);
    let metadata = [("method", method.to_owned()), ("needed", needed.to_owned())];
    if *caller == Caller::Anonymous {
        let message = format!("{method} needs {needed}; this call carries neither certificate nor token");
        return Err(status::error(Code::Unauthenticated, "UNAUTHENTICATED", message, metadata));
    }
    let message = format!("{method} needs {needed}; this call comes from {}", caller.describe());
    Err(status::error(Code::PermissionDenied, "PERMISSION_DENIED", message, metadata))
}

fn needed(rule: Rule) -> &'static str {
    match rule {
        Rule::Local => "the node's own socket, opened by its owner or root",
        Rule::LocalOrNodeCertificate => "the node's own socket or a certificate of a node of the cluster",
        Rule::NodeCertificate => "a certificate of a node of the cluster",
        Rule::JoinToken => "a join token",
        Rule::AnyAuthenticated => "the node's own socket, a node's certificate or a join token",
    }
}

impl Caller {
    /// For the history of the tree; `socket` is the local connection, if it is one.
    #[must_use]
    pub fn name(&self, socket: Option<&UdsConnectInfo>) -> String {
        match self {
            Self::Local { uid } => {
                caller::local(*uid, socket.and_then(|socket| socket.peer_cred).and_then(|peer| peer.pid()))
            }
            Self::Node { name } => format!("node:{name}"),
            Self::Joiner(presented) => format!("token:{}", presented.token.id),
            Self::Anonymous => String::new(),
        }
    }

    /// For messages and logs: no secrets.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Local { uid } => format!("local user {uid}"),
            Self::Node { name } => format!("node '{name}'"),
            Self::Joiner(presented) => format!("the holder of join token {}", presented.token.id),
            Self::Anonymous => "somebody unknown".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        fingerprint::Fingerprint,
        token::{Secret, TokenId},
    };

    fn callers() -> [Caller; 4] {
        let token = JoinToken {
            cluster: "demo".into(),
            addresses: Vec::new(),
            fingerprint: Fingerprint([0; 32]),
            id: TokenId([0; 8]),
            secret: Secret([0; 32]),
            expires: 0,
        };
        let record = TokenRecord::of(&token, "", "n1");
        [
            Caller::Local { uid: 0 },
            Caller::Node { name: "n1".parse().unwrap() },
            Caller::Joiner(Box::new(PresentedToken { token, record, version: 1 })),
            Caller::Anonymous,
        ]
    }

    #[test]
    fn every_method_of_every_service_has_a_rule() {
        let set = prost_types::FileDescriptorSet::decode(quorate_proto::DESCRIPTORS).unwrap();
        let mut methods = 0;
        for file in &set.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                for method in &service.method {
                    assert!(rule(&name, method.name()).is_some(), "{name}/{} has no rule", method.name());
                    methods += 1;
                }
            }
        }
        let ours = RULES.iter().filter(|(service, _)| service.starts_with("quorate."));
        assert_eq!(methods, ours.map(|(_, methods)| methods.len()).sum::<usize>(), "a rule without a method");
    }

    #[test]
    fn what_is_not_in_the_table_has_no_rule() {
        assert_eq!(rule("quorate.quorum.v1.QuorumService", "Explode"), None);
        assert_eq!(rule("quorate.quorum.v2.QuorumService", "GetStatus"), None);
        assert_eq!(rule("", ""), None);
    }

    #[test]
    fn each_rule_lets_exactly_its_callers_in() {
        let table = [
            (Rule::Local, [true, false, false, false]),
            (Rule::LocalOrNodeCertificate, [true, true, false, false]),
            (Rule::NodeCertificate, [false, true, false, false]),
            (Rule::JoinToken, [false, false, true, false]),
            (Rule::AnyAuthenticated, [true, true, true, false]),
        ];
        for (rule, expected) in table {
            let allowed = callers().map(|caller| check(rule, &caller, "m").is_ok());
            assert_eq!(allowed, expected, "{rule:?}");
        }
    }

    #[test]
    fn somebody_unknown_is_unauthenticated_and_somebody_known_is_denied() {
        let unknown = check(Rule::Local, &Caller::Anonymous, "m").unwrap_err();
        assert_eq!(unknown.code(), Code::Unauthenticated);
        let known = check(Rule::Local, &Caller::Node { name: "n2".parse().unwrap() }, "m").unwrap_err();
        assert_eq!(known.code(), Code::PermissionDenied);
        assert!(known.message().contains("node 'n2'"), "{}", known.message());
    }
}
