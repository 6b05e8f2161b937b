//! As much of QEMU as a migration sees.

use std::collections::BTreeMap;

use migration_core::{
    Input, Side,
    qmp::{Command, Event},
};
use serde_json::{Value, json};

use super::{Mutation, World};

/// Whether the guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    Running,
    Paused,
    Postmigrate,
    Incoming,
}

#[derive(Debug, Clone)]
pub(crate) struct Qemu {
    pub(crate) run: Run,
    /// QEMU's word for the migration.
    pub(crate) migration: &'static str,
    /// Jobs and their status.
    pub(crate) jobs: BTreeMap<String, &'static str>,
    /// All copies ended well.
    pub(crate) copied: bool,
    /// The rest of the memory is on its way, or there.
    pub(crate) everything_sent: bool,
    /// Target: everything is in the network's buffers.
    pub(crate) in_flight: bool,
    /// Target: everything is here.
    pub(crate) completed: bool,
    /// Target: the source may write to the disks.
    pub(crate) exported: bool,
}

impl Qemu {
    fn new(run: Run) -> Self {
        Self {
            run,
            migration: "none",
            jobs: BTreeMap::new(),
            copied: false,
            everything_sent: false,
            in_flight: false,
            completed: false,
            exported: false,
        }
    }

    pub(crate) fn running() -> Self {
        Self::new(Run::Running)
    }

    pub(crate) fn incoming() -> Self {
        Self::new(Run::Incoming)
    }

    /// Everything is here: it is paused, if it was started right.
    pub(crate) fn arrive(&mut self, runs_by_itself: bool) {
        self.completed = true;
        self.run = if runs_by_itself { Run::Running } else { Run::Paused };
    }

    /// The connections break; whether a migration failed by that. QEMU lets the guest go on by itself, unless all was sent.
    pub(crate) fn break_stream(&mut self, _net: bool) -> bool {
        for status in self.jobs.values_mut() {
            *status = "concluded-error";
        }
        let was_active = matches!(self.migration, "setup" | "active" | "pre-switchover" | "device");
        if was_active {
            self.migration = "failed";
            self.run = Run::Running;
        }
        was_active
    }
}

fn reply(world: &mut World, side: Side, command: Command, result: Result<Value, &str>) {
    world.tell(Input::Reply { side, command, result: result.map_err(ToOwned::to_owned) });
}

fn event(world: &mut World, side: Side, event: Event) {
    world.tell(Input::Event { side, event });
}

pub(super) fn command(world: &mut World, side: Side, command: Command) {
    let there = if side == Side::Source { world.a.is_some() } else { world.b.is_some() };
    if !there {
        return world.tell(Input::Lost { side, why: "no process".into() });
    }
    if side == Side::Source { at_source(world, command) } else { at_target(world, command) }
}

fn at_target(world: &mut World, command: Command) {
    let Some(b) = &mut world.b else { return };
    let answer = match &command {
        Command::ExportAdd { .. } => {
            b.exported = true;
            json!({})
        }
        Command::NbdStop => {
            b.exported = false;
            json!({})
        }
        Command::QueryMigrate => json!({ "status": if b.completed { "completed" } else { "active" } }),
        Command::QueryStatus => json!({ "status": match b.run {
            Run::Running => "running",
            Run::Incoming => "inmigrate",
            _ => "paused",
        } }),
        _ => json!({}),
    };
    reply(world, Side::Target, command, Ok(answer));
}

fn at_source(world: &mut World, command: Command) {
    match &command {
        Command::Migrate { .. } => return migrate(world, command),
        Command::Continue => return hand_over(world, command),
        Command::Mirror { job, .. } => {
            let job = job.clone();
            let status = if world.net { "ready" } else { "running" };
            world.a.as_mut().expect("it is there").jobs.insert(job.clone(), status);
            reply(world, Side::Source, command, Ok(json!({})));
            if status == "ready" {
                event(world, Side::Source, Event::JobReady(job));
            }
            return;
        }
        Command::JobCancel { job, force } => {
            let (job, force) = (job.clone(), *force);
            return end_job(world, command, &job, force);
        }
        _ => {}
    }
    let a = world.a.as_mut().expect("it is there");
    let result = match &command {
        Command::Cancel => {
            if a.break_stream(true) {
                a.migration = "cancelled";
            }
            Ok(json!({}))
        }
        Command::QueryMigrate => {
            let transferred = if a.migration == "active" && !world.net { 7 } else { 9 };
            Ok(json!({ "status": a.migration, "downtime": 3, "ram": { "transferred": transferred } }))
        }
        Command::QueryStatus => Ok(json!({ "status": match a.run {
            Run::Running => "running",
            Run::Postmigrate => "postmigrate",
            _ => "paused",
        } })),
        Command::QueryJobs => Ok(jobs(a)),
        Command::JobDismiss { job } => {
            a.jobs.remove(job);
            Ok(json!({}))
        }
        Command::Cont => {
            a.run = Run::Running;
            Ok(json!({}))
        }
        Command::Yank { .. } => {
            a.break_stream(true);
            Ok(json!({}))
        }
        _ => Ok(json!({})),
    };
    reply(world, Side::Source, command, result);
}

fn jobs(a: &Qemu) -> Value {
    let one = |(id, status): (&String, &&'static str)| match *status {
        "concluded-error" => json!({ "id": id, "status": "concluded", "error": "Input/output error" }),
        status => json!({ "id": id, "status": status, "current-progress": 5, "total-progress": 5 }),
    };
    Value::Array(a.jobs.iter().map(one).collect())
}

fn migrate(world: &mut World, command: Command) {
    let converges = world.converges && world.net;
    let a = world.a.as_mut().expect("it is there");
    a.migration = "active";
    if converges {
        a.migration = "pre-switchover";
        a.run = Run::Paused;
    }
    reply(world, Side::Source, command, Ok(json!({})));
    if converges {
        event(world, Side::Source, Event::Migration("pre-switchover".into()));
    }
}

/// The rest goes. Without a network it stays in the buffers: the source waits for an acknowledgement.
fn hand_over(world: &mut World, command: Command) {
    let (net, wrong) = (world.net, world.mutation == Some(Mutation::TargetRunsByItself));
    let a = world.a.as_mut().expect("it is there");
    if a.migration != "pre-switchover" {
        return reply(world, Side::Source, command, Err("not in pre-switchover"));
    }
    a.everything_sent = true;
    if net && world.b.is_some() {
        a.migration = "completed";
        a.run = Run::Postmigrate;
        world.b.as_mut().expect("it was looked at").arrive(wrong);
        event(world, Side::Source, Event::Migration("completed".into()));
        event(world, Side::Target, Event::Migration("completed".into()));
    } else {
        a.migration = "device";
        if let Some(b) = &mut world.b {
            b.in_flight = true;
        }
    }
    reply(world, Side::Source, command, Ok(json!({})));
}

fn end_job(world: &mut World, command: Command, job: &str, force: bool) {
    let a = world.a.as_mut().expect("it is there");
    match a.jobs.get_mut(job) {
        None => return reply(world, Side::Source, command, Err("no such job")),
        Some(status) if force || !world.net => *status = "concluded-error",
        Some(status) => {
            if *status == "ready" {
                *status = "concluded";
            }
        }
    }
    a.copied = a.jobs.values().all(|status| *status == "concluded" || *status == "ready");
    reply(world, Side::Source, command, Ok(json!({})));
    event(world, Side::Source, Event::JobConcluded(job.to_owned()));
}
