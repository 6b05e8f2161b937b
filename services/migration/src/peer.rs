//! The way to another node's migrationd: through its gateway, with this node's certificate.

use std::{io, time::Duration};

use hyper_util::rt::TokioIo;
use quorate_daemon::{
    Root,
    client::{DaemonChannel, deadline, traced},
};
use quorate_proto::{
    gateway::v1::GetClusterRequest,
    migration::v1::{
        migration_peer_service_client::MigrationPeerServiceClient,
        migration_service_client::MigrationServiceClient,
    },
};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Status,
    transport::{Endpoint, Uri},
};

use crate::{
    error,
    local::{Local, READ},
    tls,
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often the other end is asked for a sign of life while calls are open, and how long it may take.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// The nodes of the cluster.
pub(crate) struct Peers {
    root: Root,
    local: Local,
}

impl Peers {
    pub(crate) fn new(root: &Root, local: Local) -> Self {
        Self { root: root.clone(), local }
    }

    /// Where this node's files are.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Where the gateway of a member listens.
    pub(crate) async fn gateway(&self, node: &str) -> Result<String, Status> {
        let answer = self.local.cluster().get_cluster(deadline(GetClusterRequest {}, READ)).await?;
        let nodes = answer.into_inner().nodes;
        let Some(found) = nodes.iter().find(|member| member.name == node) else {
            let names: Vec<&str> = nodes.iter().map(|member| member.name.as_str()).collect();
            let why = format!("the cluster has no such node; it has {}", names.join(", "));
            return Err(error::peer(node, &why));
        };
        if found.gateway_address.is_empty() {
            return Err(error::peer(node, "it has not told where its gateway listens"));
        }
        Ok(found.gateway_address.clone())
    }

    async fn channel(&self, node: &str) -> Result<DaemonChannel, Status> {
        let address = self.gateway(node).await?;
        let name = ServerName::try_from(node.to_owned());
        let name = name.map_err(|_| error::peer(node, "its name cannot stand in a certificate"))?;
        let config = tls::client(&self.root, &[b"h2"]);
        let config = config.map_err(|error| error::peer(node, &quorate_daemon::telemetry::chain(&error)))?;
        let connect = tower::service_fn(move |_: Uri| {
            let (address, name, config) = (address.clone(), name.clone(), config.clone());
            async move {
                let connected = dial(address, name, TlsConnector::from(config));
                let stream = tokio::time::timeout(CONNECT, connected).await;
                stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(TokioIo::new)
            }
        });
        let channel = Endpoint::from_static("http://member")
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .connect_with_connector_lazy(connect);
        Ok(traced(channel))
    }

    /// What the other node serves for this one.
    pub(crate) async fn migration(
        &self,
        node: &str,
    ) -> Result<MigrationPeerServiceClient<DaemonChannel>, Status> {
        Ok(MigrationPeerServiceClient::new(self.channel(node).await?))
    }

    /// What the other node serves for everybody.
    pub(crate) async fn service(&self, node: &str) -> Result<MigrationServiceClient<DaemonChannel>, Status> {
        Ok(MigrationServiceClient::new(self.channel(node).await?))
    }
}

async fn dial(
    address: String,
    name: ServerName<'static>,
    connector: TlsConnector,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    connector.connect(name, stream).await
}
