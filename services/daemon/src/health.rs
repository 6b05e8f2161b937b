//! Health of each service, after the gRPC health checking protocol.
//!
//! A service is SERVING when it will answer correctly. The empty name stands for the daemon: SERVING
//! when all of its services are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tonic_health::{ServingStatus, server::HealthReporter};

use crate::service_manager::ServiceManager;

/// Tells the world which services of a daemon will answer correctly.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    services: Arc<Mutex<BTreeMap<&'static str, bool>>>,
    manager: ServiceManager,
}

impl Health {
    pub(crate) fn new(manager: ServiceManager) -> Self {
        Self { reporter: HealthReporter::new(), services: Arc::default(), manager }
    }

    pub(crate) fn reporter(&self) -> HealthReporter {
        self.reporter.clone()
    }

    /// Declares a service, not serving as yet.
    pub(crate) fn declare(&self, service: &'static str) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).insert(service, false);
    }

    /// Publishes what was declared.
    pub(crate) async fn publish(&self) {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (service, serving) in services {
            self.set(service, serving).await;
        }
    }

    /// Sets whether a service, by its full name such as `quorate.quorum.v1.QuorumService`, will answer
    /// correctly. Watchers are told if that changes.
    pub async fn set(&self, service: &'static str, serving: bool) {
        let (changed, waiting) = {
            let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
            let before = services.insert(service, serving);
            let waiting = services.iter().filter(|(_, serving)| !**serving).map(|(service, _)| *service);
            (before != Some(serving), waiting.collect::<Vec<_>>())
        };
        if changed {
            tracing::info!(service, serving, "health");
            self.manager.status(&line(&waiting));
        }
        self.reporter.set_service_status(service, status(serving)).await;
        self.reporter.set_service_status("", status(waiting.is_empty())).await;
    }

    /// Sets all services to not serving: the first step of a shutdown.
    pub(crate) async fn set_none_serving(&self) {
        let services: Vec<_> =
            self.services.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        for service in services {
            self.set(service, false).await;
        }
    }
}

/// What `systemctl status` shows.
fn line(waiting: &[&str]) -> String {
    if waiting.is_empty() { "serving".to_owned() } else { format!("not serving yet: {}", waiting.join(", ")) }
}

fn status(serving: bool) -> ServingStatus {
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}
