//! Who is a node of this cluster: what a certificate must match besides its signature.
//!
//! A certificate outlives its node's membership. So on every remote call its node must stand in the
//! nodelist of corosync.conf, and it must be the certificate that is published for that node: removing
//! a node, or admitting a new one of its name, makes the old certificate worthless at once.

use corosync_conf::ClusterConf;
use quorate_daemon::{Root, status};
use quorate_types::NodeName;
use tonic::{Code, Status};

use crate::{
    ca::{self, CertificateFacts},
    files,
    tree::{self, Tree},
};

/// Knows the nodes of the cluster.
#[derive(Clone)]
pub struct Roster {
    root: Root,
    tree: Tree,
}

impl Roster {
    /// Looks into this tree, and into this node's own corosync.conf while configd does not answer.
    #[must_use]
    pub fn new(root: Root, tree: Tree) -> Self {
        Self { root, tree }
    }

    /// The cluster's configuration; `None` if this node is in no cluster or its configuration is broken.
    pub async fn conf(&self) -> Option<ClusterConf> {
        let text = match self.tree.read(tree::COROSYNC_CONF).await {
            Ok(file) => file?.text(),
            Err(_) => local_conf(&self.root)?,
        };
        ClusterConf::parse(&text).ok()
    }

    /// The node that shows this certificate, which the cluster's CA has signed.
    ///
    /// # Errors
    /// PERMISSION_DENIED, reason `NODE_REMOVED` or `CERTIFICATE_SUPERSEDED`.
    pub async fn node_of(&self, certificate: &[u8]) -> Result<NodeName, Status> {
        let name = CertificateFacts::from_der(certificate)
            .ok()
            .and_then(|facts| facts.common_name.parse::<NodeName>().ok())
            .ok_or_else(|| {
                let message = "the client certificate names no node";
                status::error(Code::PermissionDenied, "CERTIFICATE_UNUSABLE", message, [("", ""); 0])
            })?;
        let known = self.conf().await.is_some_and(|conf| conf.node_named(name.as_str()).is_some());
        if !known {
            let message = format!(
                "the certificate of node '{name}' is worthless: the node is not (or no longer) in this \
                 cluster's corosync.conf"
            );
            return Err(status::error(Code::PermissionDenied, "NODE_REMOVED", message, [("node", &name)]));
        }
        if self.is_superseded(&name, certificate).await {
            let message = format!("node '{name}' has a newer certificate than the one shown");
            let metadata = [("node", &name)];
            return Err(status::error(Code::PermissionDenied, "CERTIFICATE_SUPERSEDED", message, metadata));
        }
        Ok(name)
    }

    /// Whether another certificate is published for the node. Not so while configd does not answer.
    async fn is_superseded(&self, name: &NodeName, certificate: &[u8]) -> bool {
        let Ok(Some(file)) = self.tree.read(&tree::certificate_path(name.as_str())).await else {
            return false;
        };
        ca::certificates(&file.text()).is_ok_and(|published| published[0].as_ref() != certificate)
    }
}

/// This node's own copy of corosync.conf, as text; `None` if there is none.
#[must_use]
pub fn local_conf(root: &Root) -> Option<String> {
    let content = files::read(&root.corosync_conf()).ok().flatten()?;
    Some(String::from_utf8_lossy(&content).into_owned())
}
