//! GuestService.

use std::{sync::Arc, time::Duration};

use guest_core::Vmid;
use quorate_proto::guest::v1::{self as api, guest_service_server::GuestService, monitor_request::Command};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{broadcast::error::RecvError, mpsc},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, finish};
use crate::{
    config_change::digest,
    error::Error,
    guests::Guests,
    life_cycle::{self, Start},
    machine::Machine,
};

/// How long a guest has to switch itself off if the caller says nothing.
const SHUTDOWN: Duration = Duration::from_secs(60);
/// Answers that a slow reader may be behind.
const AHEAD: usize = 16;
/// Bytes of a serial port that are told at a time.
const CONSOLE: usize = 4096;

/// Serves guests.
pub(crate) struct Service {
    guests: Arc<Guests>,
    shutdown: CancellationToken,
}

impl Service {
    pub(crate) fn new(guests: Arc<Guests>, shutdown: CancellationToken) -> Self {
        Self { guests, shutdown }
    }
}

fn vmid(number: u32) -> Result<Vmid, Status> {
    Ok(Vmid::try_from(number).map_err(Error::from)?)
}

#[tonic::async_trait]
impl GuestService for Service {
    async fn list(&self, _: Request<api::ListRequest>) -> Result<Response<api::ListResponse>, Status> {
        Ok(Response::new(api::ListResponse { guests: self.guests.statuses().await? }))
    }

    async fn get_config(
        &self,
        request: Request<api::GetConfigRequest>,
    ) -> Result<Response<api::GetConfigResponse>, Status> {
        let request = request.into_inner();
        let mut read = self.guests.read(vmid(request.vmid)?).await?;
        if !request.current {
            read.config.apply_pending();
        }
        let entries = read.config.entries().into_iter().map(|(key, value)| api::ConfigEntry { key, value });
        Ok(Response::new(api::GetConfigResponse {
            entries: entries.collect(),
            digest: digest(&read.text),
            text: read.text,
            node: self.guests.node.clone(),
        }))
    }

    async fn create(
        &self,
        request: Request<api::CreateRequest>,
    ) -> Result<Response<api::CreateResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        let vmid = vmid(request.vmid)?;
        finish(async move {
            guests.create(vmid, &request.entries).await?;
            if request.start {
                guests.start(vmid, Start::default()).await?;
            }
            Ok(api::CreateResponse { status: Some(guests.status(vmid).await?) })
        })
        .await
    }

    async fn set_config(
        &self,
        request: Request<api::SetConfigRequest>,
    ) -> Result<Response<api::SetConfigResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        let vmid = vmid(request.vmid)?;
        finish(async move {
            let api::SetConfigRequest { entries, delete, digest, skip_lock, .. } = request;
            let changed = guests.set_config(vmid, &entries, &delete, &digest, skip_lock).await?;
            Ok(api::SetConfigResponse { pending: changed.pending, digest: changed.digest })
        })
        .await
    }

    async fn start(
        &self,
        request: Request<api::StartRequest>,
    ) -> Result<Response<api::StartResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        let vmid = vmid(request.vmid)?;
        finish(async move {
            let api::StartRequest { skip_lock, paused, node_is_off, .. } = request;
            guests.start(vmid, Start { skip_lock, paused, node_is_off }).await?;
            Ok(api::StartResponse { status: Some(guests.status(vmid).await?) })
        })
        .await
    }

    async fn shutdown(
        &self,
        request: Request<api::ShutdownRequest>,
    ) -> Result<Response<api::ShutdownResponse>, Status> {
        let request = request.into_inner();
        let within =
            if request.timeout_ms == 0 { SHUTDOWN } else { Duration::from_millis(request.timeout_ms) };
        let forced =
            self.guests.shut_down(vmid(request.vmid)?, within, request.force_stop, request.skip_lock).await?;
        Ok(Response::new(api::ShutdownResponse { forced }))
    }

    async fn stop(&self, request: Request<api::StopRequest>) -> Result<Response<api::StopResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        let vmid = vmid(request.vmid)?;
        finish(async move {
            let was_running = guests.stop(vmid, request.skip_lock).await?;
            Ok(api::StopResponse { was_running })
        })
        .await
    }

    async fn reset(
        &self,
        request: Request<api::ResetRequest>,
    ) -> Result<Response<api::ResetResponse>, Status> {
        let request = request.into_inner();
        self.guests.reset(vmid(request.vmid)?, request.skip_lock).await?;
        Ok(Response::new(api::ResetResponse {}))
    }

    async fn destroy(
        &self,
        request: Request<api::DestroyRequest>,
    ) -> Result<Response<api::DestroyResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        let vmid = vmid(request.vmid)?;
        finish(async move {
            let freed = guests.destroy(vmid, request.unreferenced_disks, request.skip_lock).await?;
            Ok(api::DestroyResponse { freed })
        })
        .await
    }

    async fn unlock(
        &self,
        request: Request<api::UnlockRequest>,
    ) -> Result<Response<api::UnlockResponse>, Status> {
        let lock = self.guests.unlock(vmid(request.into_inner().vmid)?).await?;
        Ok(Response::new(api::UnlockResponse { lock }))
    }

    async fn get_status(
        &self,
        request: Request<api::GetStatusRequest>,
    ) -> Result<Response<api::GetStatusResponse>, Status> {
        let status = self.guests.status(vmid(request.into_inner().vmid)?).await?;
        Ok(Response::new(api::GetStatusResponse { status: Some(status) }))
    }

    type WatchStream = Answers<api::WatchResponse>;

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let only = match request.into_inner().vmid {
            0 => None,
            number => Some(vmid(number)?),
        };
        let (answers, stream) = mpsc::channel(AHEAD);
        let (guests, shutdown) = (self.guests.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = tell(&guests, only, &answers) => ended,
                () = shutdown.cancelled() => Err(Status::unavailable("guestd is stopping")),
            };
            if let Err(status) = ended {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn monitor(
        &self,
        request: Request<api::MonitorRequest>,
    ) -> Result<Response<api::MonitorResponse>, Status> {
        let request = request.into_inner();
        let vmid = vmid(request.vmid)?;
        self.guests.read(vmid).await?;
        let machine = self.guests.running(vmid)?;
        let output = match request.command {
            Some(Command::Human(line)) => life_cycle::human_monitor(&machine, &line).await?,
            Some(Command::Qmp(command)) => life_cycle::qmp_monitor(&machine, &command).await?,
            None => return Err(quorate_daemon::status::invalid_field("command", "a command is needed")),
        };
        Ok(Response::new(api::MonitorResponse { output }))
    }

    type ConsoleStream = Answers<api::ConsoleResponse>;

    async fn console(
        &self,
        request: Request<Streaming<api::ConsoleRequest>>,
    ) -> Result<Response<Self::ConsoleStream>, Status> {
        let mut typed = request.into_inner();
        let first = typed
            .message()
            .await?
            .ok_or_else(|| quorate_daemon::status::invalid_field("vmid", "a guest is needed"))?;
        let machine = self.guests.running(vmid(first.vmid)?)?;
        let port = guest_core::command_line::Files(&machine.directory).serial(0);
        if !port.exists() {
            let field = quorate_daemon::status::invalid_field(
                "vmid",
                "the guest has no serial port: qm set ID --serial0 socket",
            );
            return Err(field);
        }
        let port = UnixStream::connect(&port).await.map_err(Error::file(port))?;
        let (answers, stream) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            if let Err(status) = talk(&machine, port, first, typed, &answers).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// Sends all states, then each that changes, until nobody listens.
async fn tell(
    guests: &Guests,
    only: Option<Vmid>,
    answers: &mpsc::Sender<Result<api::WatchResponse, Status>>,
) -> Result<(), Status> {
    let mut changes = guests.changes.subscribe();
    loop {
        let wanted = |status: &api::GuestStatus| only.is_none_or(|vmid| vmid.get() == status.vmid);
        for status in guests.statuses().await?.into_iter().filter(wanted) {
            let answer = api::WatchResponse { status: Some(status), initial_done: false };
            if answers.send(Ok(answer)).await.is_err() {
                return Ok(());
            }
        }
        if answers.send(Ok(api::WatchResponse { status: None, initial_done: true })).await.is_err() {
            return Ok(());
        }
        loop {
            let vmid = tokio::select! {
                changed = changes.recv() => match changed {
                    Ok(vmid) => vmid,
                    // Too far behind: all of it again.
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Ok(()),
                },
                () = answers.closed() => return Ok(()),
            };
            if only.is_some_and(|only| only != vmid) {
                continue;
            }
            let status = match guests.status(vmid).await {
                Ok(status) => status,
                Err(Error::Unknown(_) | Error::Elsewhere { .. }) => {
                    api::GuestStatus { vmid: vmid.get(), node: guests.node.clone(), ..Default::default() }
                }
                Err(error) => return Err(error.into()),
            };
            if answers
                .send(Ok(api::WatchResponse { status: Some(status), initial_done: false }))
                .await
                .is_err()
            {
                return Ok(());
            }
        }
    }
}

/// Carries bytes between a caller and a serial port until either ends.
async fn talk(
    machine: &Machine,
    port: UnixStream,
    first: api::ConsoleRequest,
    mut typed: Streaming<api::ConsoleRequest>,
    answers: &mpsc::Sender<Result<api::ConsoleResponse, Status>>,
) -> Result<(), Status> {
    let Ok(_alone) = machine.console.try_lock() else {
        return Err(Error::ConsoleInUse(machine.vmid.get()).into());
    };
    let (mut from_guest, mut to_guest) = port.into_split();
    let broken = |error: std::io::Error| Status::unavailable(format!("the serial port is gone: {error}"));
    to_guest.write_all(&first.data).await.map_err(broken)?;
    let mut buffer = vec![0; CONSOLE];
    loop {
        tokio::select! {
            read = from_guest.read(&mut buffer) => {
                let read = read.map_err(broken)?;
                let data = bytes::Bytes::copy_from_slice(&buffer[..read]);
                if read == 0 || answers.send(Ok(api::ConsoleResponse { data })).await.is_err() {
                    return Ok(());
                }
            }
            next = typed.next() => match next {
                Some(next) => to_guest.write_all(&next?.data).await.map_err(broken)?,
                None => return Ok(()),
            },
        }
    }
}
