#!/usr/bin/env python3
"""An OTLP collector of few lines for tests: writes each span that it receives as one line of JSON.

    trace_sink.py 127.0.0.1:0 spans.jsonl      prints the address that it listens on
"""

import json
import sys
import threading
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Sink(trace_service_pb2_grpc.TraceServiceServicer):
    """Appends spans to a file."""

    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8")
        self.lock = threading.Lock()

    def Export(self, request, context):  # noqa: N802 (the name is gRPC's)
        with self.lock:
            for resource_spans in request.resource_spans:
                attributes = {pair.key: pair.value.string_value for pair in resource_spans.resource.attributes}
                for scope in resource_spans.scope_spans:
                    for span in scope.spans:
                        self.file.write(json.dumps(line(attributes, span)) + "\n")
            self.file.flush()
        return trace_service_pb2.ExportTraceServiceResponse()


def line(resource, span):
    """What the tests look at."""
    return {
        "service": resource.get("service.name", ""),
        "host": resource.get("host.name", ""),
        "node": resource.get("node.name", resource.get("host.name", "")),
        "trace": span.trace_id.hex(),
        "span": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "name": span.name,
        "kind": span.kind,
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "links": [link.trace_id.hex() for link in span.links],
    }


def main():
    listen, path = sys.argv[1:]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Sink(path), server)
    port = server.add_insecure_port(listen)
    server.start()
    print(f"{listen.rsplit(':', 1)[0]}:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
