#!/usr/bin/env python3
"""Reads, writes and watches files of a Quorate cluster with nothing but stock grpcio.

The services are discovered by reflection: no generated code is needed. The TLS port of any node will do;
the caller shows a certificate that the cluster's CA has signed.

    quorate_files.py --target 127.0.0.1:8006 --ca ca.pem --cert node.pem --key node.key services
    quorate_files.py ... put datacenter.cfg < file
    quorate_files.py ... get datacenter.cfg
    quorate_files.py ... watch '' --after 12 --count 3
"""

import argparse
import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "quorate.config.v1.ConfigService"
DEADLINE_SECONDS = 10


class ConfigClient:
    """The files of a cluster, through the reflection of one node's gateway."""

    def __init__(self, channel):
        self.channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)
        self.service = self.pool.FindServiceByName(SERVICE)

    def services(self):
        """The full names of all services of the node."""
        return sorted(self.database.get_services())

    def _method(self, name):
        method = self.service.methods_by_name[name]
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        return f"/{SERVICE}/{name}", request, response

    def call(self, name, **fields):
        """One unary call."""
        path, request, response = self._method(name)
        invoke = self.channel.unary_unary(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        return invoke(request(**fields), timeout=DEADLINE_SECONDS)

    def watch(self, **fields):
        """The changes under a prefix, one answer per burst."""
        path, request, response = self._method("Watch")
        invoke = self.channel.unary_stream(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        return invoke(request(**fields))


def open_channel(target, ca, cert, key):
    """A TLS channel that shows a client certificate."""

    def read(path):
        with open(path, "rb") as file:
            return file.read()

    credentials = grpc.ssl_channel_credentials(read(ca), read(key), read(cert))
    return grpc.secure_channel(target, credentials)


def watch(client, prefix, after, count):
    """Prints changes until `count` of them were seen."""
    fields = {"prefix": prefix}
    if after is not None:
        fields["after_version"] = after
    for answer in client.watch(**fields):
        for change in answer.changes:
            print(change.version, change.entry.path, flush=True)
            count -= 1
            if count == 0:
                return


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("target", "ca", "cert", "key"):
        parser.add_argument(f"--{option}", required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("services")
    commands.add_parser("get").add_argument("path")
    commands.add_parser("put").add_argument("path")
    watching = commands.add_parser("watch")
    watching.add_argument("prefix")
    watching.add_argument("--after", type=int)
    watching.add_argument("--count", type=int, default=1)
    args = parser.parse_args()

    with open_channel(args.target, args.ca, args.cert, args.key) as channel:
        client = ConfigClient(channel)
        if args.command == "services":
            print("\n".join(client.services()))
        elif args.command == "get":
            sys.stdout.buffer.write(client.call("Get", path=args.path).content)
        elif args.command == "put":
            entry = client.call("Put", path=args.path, content=sys.stdin.buffer.read()).entry
            print(entry.version)
        else:
            watch(client, args.prefix, args.after, args.count)


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
