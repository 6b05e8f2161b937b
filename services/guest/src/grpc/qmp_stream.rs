//! QMP of a guest under its migration, as a stream.

use std::{sync::Arc, time::Duration};

use guest_core::{Vmid, qmp::Event};
use prost_types::Timestamp;
use quorate_proto::guest::v1::{
    QmpRequest, QmpResponse,
    qmp_request::{Attach, Command, Request as Asked},
    qmp_response::{self as answer, Response as Answer, reply::Result as Outcome},
};
use serde_json::Value;
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

use super::Answers;
use crate::{
    error::Error,
    guests::Guests,
    machine::Machine,
    qmp::{PATIENCE, QmpError},
};

/// Answers that a slow reader may be behind.
const AHEAD: usize = 64;

type Sender = mpsc::Sender<Result<QmpResponse, Status>>;

/// Finds the guest and begins to carry commands, answers and events.
pub(super) async fn open(
    guests: Arc<Guests>,
    mut asked: Streaming<QmpRequest>,
) -> Result<Answers<QmpResponse>, Status> {
    let Some(QmpRequest { request: Some(Asked::Attach(attach)) }) = asked.message().await? else {
        return Err(quorate_daemon::status::invalid_field("attach", "the first request says which guest"));
    };
    let machine = find(&guests, &attach).await?;
    let (answers, stream) = mpsc::channel(AHEAD);
    // Events from before the first answer on: none is missed.
    let events = machine.qmp.subscribe();
    let block_nodes = block_nodes(&machine).await?;
    let attached = answer::Attached {
        status: Some(guests.status(machine.vmid).await?),
        version: machine.qmp.version().to_owned(),
        block_nodes,
        socket_directory: machine.directory.display().to_string(),
    };
    let _ = answers.send(Ok(QmpResponse { response: Some(Answer::Attached(attached)) })).await;
    tokio::spawn(carry(machine, asked, events, answers));
    Ok(Box::pin(ReceiverStream::new(stream)))
}

async fn find(guests: &Guests, attach: &Attach) -> Result<Arc<Machine>, Error> {
    let vmid = Vmid::try_from(attach.vmid)?;
    let machine = guests.running(vmid)?;
    if machine.facts().incoming.as_deref() == Some(attach.migration_id.as_str()) {
        return Ok(machine);
    }
    let found = guests.read(vmid).await?.config.get("migrationid").unwrap_or_default().to_owned();
    if found == attach.migration_id && !found.is_empty() {
        return Ok(machine);
    }
    let reason = if found.is_empty() { "no migration".to_owned() } else { format!("migration '{found}'") };
    Err(Error::Migration { vmid: vmid.get(), reason })
}

/// Disks by key: nodes of the block graph that are called after their slots.
async fn block_nodes(machine: &Machine) -> Result<std::collections::HashMap<String, String>, Error> {
    let nodes = machine.execute("query-named-block-nodes", serde_json::json!({ "flat": true })).await?;
    let names = nodes.as_array().into_iter().flatten().filter_map(|node| node["node-name"].as_str());
    Ok(names.filter_map(|name| Some((name.strip_prefix("drive-")?.to_owned(), name.to_owned()))).collect())
}

async fn carry(
    machine: Arc<Machine>,
    mut asked: Streaming<QmpRequest>,
    mut events: tokio::sync::broadcast::Receiver<Event>,
    answers: Sender,
) {
    loop {
        let response = tokio::select! {
            next = asked.next() => match next {
                Some(Ok(QmpRequest { request: Some(Asked::Command(command)) })) => {
                    tokio::spawn(execute(machine.clone(), command, answers.clone()));
                    continue;
                }
                Some(Ok(_)) => Err(quorate_daemon::status::invalid_field("command", "a command is expected")),
                Some(Err(_)) | None => return,
            },
            event = events.recv() => match event {
                Ok(event) => Ok(QmpResponse { response: Some(Answer::Event(told(event))) }),
                Err(RecvError::Lagged(missed)) => {
                    Err(Status::data_loss(format!("{missed} events were missed: ask QEMU for its state and attach again")))
                }
                Err(RecvError::Closed) => closed(&machine),
            },
            () = machine.qmp.closed() => closed(&machine),
        };
        let is_last = !matches!(&response, Ok(QmpResponse { response: Some(Answer::Event(_)) }));
        if answers.send(response).await.is_err() || is_last {
            return;
        }
    }
}

fn closed(machine: &Machine) -> Result<QmpResponse, Status> {
    Ok(QmpResponse { response: Some(Answer::Closed(answer::Closed { stderr: machine.stderr() })) })
}

fn told(event: Event) -> answer::Event {
    let data = if event.data.is_null() { String::new() } else { event.data.to_string() };
    let nanos = event.microseconds.saturating_mul(1000);
    answer::Event { name: event.name, data, time: Some(Timestamp { seconds: event.seconds, nanos }) }
}

async fn execute(machine: Arc<Machine>, command: Command, answers: Sender) {
    let Command { id, execute, arguments, oob, timeout_ms } = command;
    let within = if timeout_ms == 0 { PATIENCE } else { Duration::from_millis(timeout_ms) };
    let arguments = if arguments.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&arguments) };
    let connection = if oob { &machine.oob } else { &machine.qmp };
    let result = match arguments {
        Ok(arguments) => connection.execute(&execute, arguments, oob, within).await,
        Err(_) => {
            return drop(
                answers.send(Err(quorate_daemon::status::invalid_field("arguments", "no JSON"))).await,
            );
        }
    };
    let outcome = match result {
        Ok(value) => Outcome::Returned(value.to_string()),
        Err(QmpError::Refused { source, .. }) => {
            Outcome::Error(answer::Error { class: source.class, description: source.description })
        }
        Err(QmpError::TimedOut { .. }) => Outcome::TimedOut(true),
        // The end of the connection is told once, for all.
        Err(_) => return,
    };
    let reply = answer::Reply { id, result: Some(outcome) };
    // The caller may be gone.
    let _ = answers.send(Ok(QmpResponse { response: Some(Answer::Reply(reply)) })).await;
}
