//! The names of spans, attributes and methods, in one place.
//!
//! Source: OpenTelemetry semantic conventions for RPC, 1.44 (release candidate). The status code is
//! called `rpc.response.status_code` in the releases 1.39 to 1.44; later drafts shorten it.

use std::{collections::HashSet, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// Which RPC system: always `grpc`.
pub const SYSTEM: &str = "rpc.system.name";
/// The full method: `package.Service/Method`.
pub const METHOD: &str = "rpc.method";
/// The status code by name: `NOT_FOUND`.
pub const STATUS_CODE: &str = "rpc.response.status_code";
/// Set when the call failed: the name of the status code.
pub const ERROR_TYPE: &str = "error.type";
/// The method of calls that no service of this project knows.
pub const OTHER: &str = "_OTHER";

/// Every method of every API, health and reflection included, as `package.Service/Method`.
static METHODS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    [
        quorate_proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ]
    .into_iter()
    .flat_map(methods_of)
    .collect()
});

fn methods_of(descriptors: &[u8]) -> Vec<String> {
    let set = FileDescriptorSet::decode(descriptors).expect("descriptors were encoded by the compiler");
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                methods.push(format!("{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    methods
}

/// The method that a request's path names, or [`OTHER`]: the number of labels stays bounded whatever
/// clients ask for.
#[must_use]
pub fn method_of(path: &str) -> &'static str {
    METHODS.get(path.trim_start_matches('/')).map_or(OTHER, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_conventions() {
        assert_eq!(
            [SYSTEM, METHOD, STATUS_CODE, ERROR_TYPE],
            ["rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type"]
        );
    }

    #[test]
    fn methods_of_all_apis_are_known_and_others_are_not() {
        assert_eq!(
            method_of("/quorate.quorum.v1.QuorumService/GetStatus"),
            "quorate.quorum.v1.QuorumService/GetStatus"
        );
        assert_eq!(method_of("/grpc.health.v1.Health/Watch"), "grpc.health.v1.Health/Watch");
        assert_eq!(method_of("/quorate.quorum.v1.QuorumService/Guess"), OTHER);
        assert_eq!(method_of(""), OTHER);
    }
}
