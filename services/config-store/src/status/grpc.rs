//! `StatusService`: converts requests and answers; everything is answered from memory.

use config_store_core::status::{LogDraft, LogEntry};
use quorate_proto::config::v1::{
    self as proto, AppendLogRequest, AppendLogResponse, FetchRequest, FetchResponse, GetGeneratedRequest,
    GetGeneratedResponse, GetGuestPropertiesRequest, GetGuestPropertiesResponse, Guest, GuestProperties,
    ListGuestsRequest, ListGuestsResponse, PublishRequest, PublishResponse, ReadLogRequest, ReadLogResponse,
    VerifyTokenRequest, VerifyTokenResponse, status_service_server::StatusService,
};
use tonic::{Request, Response, Status as GrpcStatus};

use super::{QueryError, Status};
use crate::{
    generated::{Generated as _, GeneratedFile, LOG_ENTRIES},
    guests, token_file,
    view::View,
};

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Grpc {
    status: Status,
    view: View,
}

impl Grpc {
    pub(crate) fn new(status: Status, view: View) -> Self {
        Self { status, view }
    }
}

fn log_entry(entry: LogEntry) -> proto::LogEntry {
    proto::LogEntry {
        uid: entry.uid,
        time: Some(prost_types::Timestamp { seconds: entry.time.into(), nanos: 0 }),
        node: entry.node,
        user: entry.ident,
        tag: entry.tag,
        pid: entry.pid,
        priority: entry.priority.into(),
        message: entry.message,
    }
}

type Answer<T> = Result<Response<T>, GrpcStatus>;

#[tonic::async_trait]
impl StatusService for Grpc {
    async fn publish(&self, request: Request<PublishRequest>) -> Answer<PublishResponse> {
        let request = request.into_inner();
        self.status.publish(&request.key, request.value)?;
        Ok(Response::new(PublishResponse {}))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Answer<FetchResponse> {
        let request = request.into_inner();
        let value = self.status.fetch(&request.key, &request.node)?;
        Ok(Response::new(FetchResponse { value }))
    }

    async fn append_log(&self, request: Request<AppendLogRequest>) -> Answer<AppendLogResponse> {
        let AppendLogRequest { user, tag, pid, priority, message } = request.into_inner();
        self.status.log(LogDraft { ident: user, tag, pid, priority, message })?;
        Ok(Response::new(AppendLogResponse {}))
    }

    async fn read_log(&self, request: Request<ReadLogRequest>) -> Answer<ReadLogResponse> {
        let request = request.into_inner();
        let max = match request.max {
            0 => LOG_ENTRIES,
            max => max as usize,
        };
        let entries = self.status.entries(max, &request.user).into_iter().map(log_entry).collect();
        Ok(Response::new(ReadLogResponse { entries }))
    }

    async fn list_guests(&self, _: Request<ListGuestsRequest>) -> Answer<ListGuestsResponse> {
        let (version, guests) = self.status.guests();
        let guests = guests.into_iter().map(|line| Guest {
            vmid: line.vmid,
            node: line.node,
            r#type: line.kind,
            version: line.version,
        });
        Ok(Response::new(ListGuestsResponse { version, guests: guests.collect() }))
    }

    async fn get_guest_properties(
        &self,
        request: Request<GetGuestPropertiesRequest>,
    ) -> Answer<GetGuestPropertiesResponse> {
        let request = request.into_inner();
        let found = guests::properties(&self.view.tree(), request.vmid, &request.properties)?;
        let guests = found
            .into_iter()
            .map(|(vmid, properties)| GuestProperties { vmid, properties: properties.into_iter().collect() });
        Ok(Response::new(GetGuestPropertiesResponse { guests: guests.collect() }))
    }

    async fn verify_token(&self, request: Request<VerifyTokenRequest>) -> Answer<VerifyTokenResponse> {
        let request = request.into_inner();
        token_file::verify(&self.view.tree(), &request.user_id, &request.secret)?;
        Ok(Response::new(VerifyTokenResponse {}))
    }

    async fn get_generated(&self, request: Request<GetGeneratedRequest>) -> Answer<GetGeneratedResponse> {
        let name = request.into_inner().name;
        let file = GeneratedFile::named(&name).ok_or(QueryError::FileUnknown { name })?;
        Ok(Response::new(GetGeneratedResponse { content: self.status.content(file) }))
    }
}
