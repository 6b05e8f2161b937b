//! The door: every call passes here, is allowed or refused by its rule, and goes to whoever serves it.
//!
//! | path | goes to |
//! |---|---|
//! | `/quorate.gateway.v1.ClusterService/*`, health, reflection | this daemon |
//! | the services of the other daemons | their Unix sockets, see `route.rs` |
//! | `GET /metrics`, `GET /metrics/<daemon>` | all daemons merged, or one as it is |
//! | everything else | UNIMPLEMENTED |
//!
//! The Unix socket and the TLS port have the same door; what differs is who a caller can prove to be.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    response::IntoResponse as _,
    routing::get,
};
use futures_util::future::join_all;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use quorate_daemon::{Metrics, metrics::CONTENT_TYPE as OPENMETRICS, rpc::server::ServerLayer, status};
use tonic::{Code, Status, body::Body, transport::server::UdsConnectInfo};
use tower::{Service, ServiceExt as _};

use crate::{
    auth::{self, Rule},
    caller::Identifier,
    client::{DAEMONS, Daemons, daemon_of},
    metrics::{self, Part},
    route,
};

/// This daemon's name among those whose metrics are served.
const OWN: &str = "gatewayd";
/// How long a daemon may take to hand over its metrics.
const SCRAPE: Duration = Duration::from_secs(5);
/// The most metrics of one daemon: a hundred times what any has.
const SCRAPE_MAX: usize = 8 * 1024 * 1024;

/// Everything behind the door.
#[derive(Clone)]
pub struct Door {
    house: Arc<House>,
}

struct House {
    identifier: Identifier,
    daemons: Daemons,
    own: Router,
    metrics: Metrics,
}

type AxumBody = axum::body::Body;
type Answer = Response<AxumBody>;

impl Door {
    /// A door to these daemons and to the gateway's own services.
    #[must_use]
    pub fn new(identifier: Identifier, daemons: Daemons, own: Router, metrics: Metrics) -> Self {
        Self { house: Arc::new(House { identifier, daemons, own, metrics }) }
    }

    /// The door as a router: calls with spans and durations around them, metrics without.
    pub fn into_router(self) -> Router {
        let layer = ServerLayer::new(self.house.metrics.rpc().clone());
        let guarded = Router::new()
            .route("/metrics", get(merged))
            .route("/metrics/{daemon}", get(single))
            .route_layer(axum::middleware::from_fn_with_state(self.house.clone(), metrics_allowed))
            .with_state(self.house.clone());
        Router::new().fallback_service(tower::Layer::layer(&layer, self)).merge(guarded)
    }

    /// The metrics alone, for everybody: for the address that `metrics_listen` names.
    pub fn metrics_router(&self) -> Router {
        Router::new()
            .route("/metrics", get(merged))
            .route("/metrics/{daemon}", get(single))
            .with_state(self.house.clone())
    }
}

impl Service<Request<AxumBody>> for Door {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<AxumBody>) -> Self::Future {
        let house = self.house.clone();
        Box::pin(async move { Ok(house.answer(request).await.unwrap_or_else(|status| refusal(&status))) })
    }
}

fn refusal(status: &Status) -> Answer {
    status.clone().into_http::<Body>().map(AxumBody::new)
}

impl House {
    async fn answer(&self, request: Request<AxumBody>) -> Result<Answer, Status> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let (service, method) = route::split(&path).ok_or_else(|| unknown(&path))?;
        let rule = auth::rule(service, method).ok_or_else(|| unknown(&path))?;
        let caller = self.allow(&parts, rule, method).await?;
        let name = caller.name(parts.extensions.get::<UdsConnectInfo>());
        parts.extensions.insert(caller);
        let request = Request::from_parts(parts, body);
        let answer = match daemon_of(service) {
            Some(daemon) => {
                route::forward(&self.daemons, daemon, request.map(Body::new), &name).await.map(AxumBody::new)
            }
            None => self.own.clone().oneshot(request).await.unwrap_or_else(|never| match never {}),
        };
        Ok(answer)
    }

    async fn allow(&self, call: &Parts, rule: Rule, method: &str) -> Result<auth::Caller, Status> {
        let refused = |status: Status| {
            let (code, reason) = (status.code(), status.message());
            // Anybody can make calls without credentials; a line for each would fill the log.
            if code == Code::PermissionDenied {
                tracing::warn!(method, ?code, reason, "call refused");
            } else {
                tracing::debug!(method, ?code, reason, "call refused");
            }
            status
        };
        let caller = self.identifier.identify(call).await.map_err(refused)?;
        auth::check(rule, &caller, method).map_err(refused)?;
        Ok(caller)
    }

    async fn metrics_of(&self, daemon: &str) -> Option<String> {
        if daemon == OWN {
            return Some(self.metrics.encode());
        }
        let request = Request::get("/metrics").body(Body::empty()).expect("a path is a valid target");
        let read = async {
            let answer = self.daemons.untraced(daemon).oneshot(request).await.ok()?;
            let body = Limited::new(answer.into_body(), SCRAPE_MAX).collect().await.ok()?;
            String::from_utf8(body.to_bytes().to_vec()).ok()
        };
        tokio::time::timeout(SCRAPE, read).await.ok()?
    }
}

fn unknown(path: &str) -> Status {
    let message = format!("this node has no method '{path}'");
    status::error(Code::Unimplemented, "UNKNOWN_METHOD", message, [("path", path)])
}

async fn metrics_allowed(
    State(house): State<Arc<House>>,
    request: Request<AxumBody>,
    next: axum::middleware::Next,
) -> Answer {
    let (parts, body) = request.into_parts();
    match house.allow(&parts, Rule::LocalOrNodeCertificate, "/metrics").await {
        Ok(_) => next.run(Request::from_parts(parts, body)).await,
        Err(status) if status.code() == Code::Unauthenticated => {
            (StatusCode::UNAUTHORIZED, status.message().to_owned()).into_response()
        }
        Err(status) => (StatusCode::FORBIDDEN, status.message().to_owned()).into_response(),
    }
}

async fn merged(State(house): State<Arc<House>>) -> Answer {
    let daemons: Vec<&str> = DAEMONS.into_iter().chain([OWN]).collect();
    let texts = join_all(daemons.iter().map(|daemon| house.metrics_of(daemon))).await;
    let parts: Vec<Part<'_>> =
        daemons.iter().zip(&texts).map(|(daemon, text)| Part { daemon, text: text.as_deref() }).collect();
    ([(CONTENT_TYPE, OPENMETRICS)], metrics::merge(&parts)).into_response()
}

async fn single(State(house): State<Arc<House>>, Path(daemon): Path<String>) -> Answer {
    if daemon != OWN && !DAEMONS.contains(&daemon.as_str()) {
        let known = format!("there is no daemon '{daemon}'; there are {}, {OWN}\n", DAEMONS.join(", "));
        return (StatusCode::NOT_FOUND, known).into_response();
    }
    match house.metrics_of(&daemon).await {
        Some(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, format!("{daemon} does not answer\n")).into_response(),
    }
}
