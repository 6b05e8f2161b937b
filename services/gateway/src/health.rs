//! One health service for the whole node.
//!
//! A service's name is asked at the daemon that serves it; the empty name is SERVING when all daemons
//! are. A daemon that does not answer is NOT_SERVING: to the one who asks that is the same. Watches
//! outlive the restart of a daemon.

use std::{pin::Pin, time::Duration};

use futures_util::{
    Stream, StreamExt as _,
    future::join_all,
    stream::{self, BoxStream},
};
use quorate_daemon::client::{DaemonChannel, deadline};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient, health_server::Health,
};

use crate::client::{DAEMONS, Daemons, daemon_of};

/// The gateway's own service.
const OWN: &str = "quorate.gateway.v1.ClusterService";
/// How long a daemon may take to say how it is.
const CHECK: Duration = Duration::from_secs(2);
/// First pause before a daemon that went away is asked again; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The health of this node's services.
#[derive(Clone)]
pub struct NodeHealth {
    daemons: Daemons,
    shutdown: CancellationToken,
}

impl NodeHealth {
    /// Asks these daemons; the gateway itself serves until `shutdown`.
    #[must_use]
    pub fn new(daemons: Daemons, shutdown: CancellationToken) -> Self {
        Self { daemons, shutdown }
    }

    /// What a daemon says of one of its services, or of all (the empty name).
    ///
    /// # Errors
    /// What the daemon answers, or why it does not.
    pub async fn ask(&self, daemon: &str, service: &str) -> Result<ServingStatus, Status> {
        let mut client = HealthClient::new(self.daemons.channel(daemon));
        let request = HealthCheckRequest { service: service.to_owned() };
        Ok(client.check(deadline(request, CHECK)).await?.into_inner().status())
    }

    fn own(&self) -> ServingStatus {
        serving(!self.shutdown.is_cancelled())
    }

    async fn all(&self) -> ServingStatus {
        let answers = join_all(DAEMONS.map(|daemon| self.ask(daemon, ""))).await;
        let all = answers.into_iter().all(|answer| answer.is_ok_and(|s| s == ServingStatus::Serving));
        serving(all && self.own() == ServingStatus::Serving)
    }

    fn watch_all(&self) -> BoxStream<'static, ServingStatus> {
        let watches = DAEMONS.iter().enumerate().map(|(at, daemon)| {
            follow(self.daemons.channel(daemon), "").map(move |status| (at, status)).boxed()
        });
        let mut known = [None; DAEMONS.len()];
        let merged = stream::select_all(watches).filter_map(move |(at, status)| {
            known[at] = Some(status);
            let complete = known.iter().all(Option::is_some);
            let all = known.iter().all(|status| *status == Some(ServingStatus::Serving));
            std::future::ready(complete.then_some(serving(all)))
        });
        changes(merged).boxed()
    }

    fn watch_own(&self) -> BoxStream<'static, ServingStatus> {
        stream::once(std::future::ready(self.own())).chain(stream::pending()).boxed()
    }
}

fn serving(serving: bool) -> ServingStatus {
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// Only what differs from the item before.
fn changes(statuses: impl Stream<Item = ServingStatus>) -> impl Stream<Item = ServingStatus> {
    let mut last = None;
    statuses.filter(move |status| {
        let changed = last != Some(*status);
        last = Some(*status);
        std::future::ready(changed)
    })
}

/// A watch of one daemon that begins anew whenever it ends.
struct Following {
    channel: DaemonChannel,
    service: String,
    watch: Option<Streaming<HealthCheckResponse>>,
    pause: Duration,
}

fn follow(channel: DaemonChannel, service: &str) -> impl Stream<Item = ServingStatus> + use<> {
    let following = Following { channel, service: service.to_owned(), watch: None, pause: Duration::ZERO };
    changes(stream::unfold(following, async |mut following| {
        let status = following.next().await;
        Some((status, following))
    }))
}

impl Following {
    async fn next(&mut self) -> ServingStatus {
        if self.watch.is_none() {
            tokio::time::sleep(self.pause).await;
            let request = HealthCheckRequest { service: self.service.clone() };
            // The call itself has no deadline, as a watch lasts; its beginning has.
            let mut client = HealthClient::new(self.channel.clone());
            let watch = tokio::time::timeout(CHECK, client.watch(request)).await;
            self.watch = watch.ok().and_then(Result::ok).map(Response::into_inner);
        }
        if let Some(watch) = &mut self.watch
            && let Ok(Some(answer)) = watch.message().await
        {
            self.pause = Duration::ZERO;
            return answer.status();
        }
        self.watch = None;
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        ServingStatus::NotServing
    }
}

#[tonic::async_trait]
impl Health for NodeHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let status = match (service.as_str(), daemon_of(&service)) {
            ("", _) => self.all().await,
            (OWN, _) => self.own(),
            (_, Some(daemon)) => match self.ask(daemon, &service).await {
                Err(status) if status.code() == Code::NotFound => return Err(status),
                answer => answer.unwrap_or(ServingStatus::NotServing),
            },
            _ => return Err(Status::not_found(format!("this node has no service '{service}'"))),
        };
        Ok(Response::new(answer(status)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let statuses = match (service.as_str(), daemon_of(&service)) {
            ("", _) => self.watch_all(),
            (OWN, _) => self.watch_own(),
            (_, Some(daemon)) => follow(self.daemons.channel(daemon), &service).boxed(),
            _ => stream::once(std::future::ready(ServingStatus::ServiceUnknown))
                .chain(stream::pending())
                .boxed(),
        };
        let last = stream::once(std::future::ready(ServingStatus::NotServing));
        let until_shutdown = statuses.take_until(self.shutdown.clone().cancelled_owned()).chain(last);
        Ok(Response::new(Box::pin(changes(until_shutdown).map(|status| Ok(answer(status))))))
    }
}
