"""One command is one trace: from pvecm through the daemons to the apply on every node."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from nodes import PATIENCE_SECONDS, Cluster

# Between two looks at what has arrived: the exporters hand over what they have every few seconds.
EVERY_SECONDS = 0.2
PUT = "quorate.config.v1.ConfigService/Put"
NODES = {"hp1", "hp2", "hp3"}


class Sink:
    """The collector that keeps what it gets, and perhaps another one in front of it."""

    def __init__(self, case):
        self.case = case
        self.path = os.path.join(tempfile.mkdtemp(prefix="quorate-spans-"), "spans.jsonl")
        sink = self.start(sys.executable, "trace_sink.py", "127.0.0.1:0", self.path, stdout=subprocess.PIPE)
        self.address = sink.stdout.readline().strip()

    def start(self, *command, **options):
        """Runs a program until the tests of the case are over."""
        process = subprocess.Popen(command, text=True, **options)
        self.case.addClassCleanup(process.communicate)
        self.case.addClassCleanup(process.kill)
        return process

    def rotel(self, program):
        """Puts rotel in front of the sink; its address."""
        address = f"127.0.0.1:{free_port()}"
        self.start(
            program,
            *("start", "--otlp-grpc-endpoint", address, "--otlp-http-endpoint", f"127.0.0.1:{free_port()}"),
            *("--exporter", "otlp", "--otlp-exporter-endpoint", f"http://{self.address}"),
            *("--otlp-exporter-protocol", "grpc"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return address

    def spans(self):
        """All spans that have arrived."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.endswith("\n")]


def free_port():
    """A port that nobody listens on at present."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def rotel_program():
    """Where the collector rotel lies, if it is installed."""
    package = importlib.util.find_spec("rotel")
    program = os.path.join(os.path.dirname(package.origin), "rotel-agent") if package else None
    return program if program and os.access(program, os.X_OK) else None


class OneTrace:
    """What a write must leave in a collector. Three nodes and pvecm export to it."""

    @classmethod
    def setUpClass(cls):
        cls.sink = Sink(cls)
        cls.cluster = cls.enterClassContext(Cluster(3, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{cls.collector()}"))

    def traces(self, command):
        """The spans of each trace that began with this command."""
        spans = self.sink.spans()
        roots = [span for span in spans if span["service"] == "pvecm" and span["name"] == command]
        return [[span for span in spans if span["trace"] == root["trace"]] for root in roots]

    def wait_for(self, what, look):
        deadline = time.monotonic() + PATIENCE_SECONDS / 4
        while not (found := look()):
            self.assertLess(time.monotonic(), deadline, f"gave up waiting for {what}; seen: {self.traces('pvecm cfg put')}")
            time.sleep(EVERY_SECONDS)
        return found

    def test_a_write_is_one_trace_with_an_apply_on_every_node(self):
        self.cluster.pvecm("hp2", "cfg", "put", "traced.cfg", stdin="a: b\n")

        def complete():
            traces = self.traces("pvecm cfg put")
            applied = {span["node"] for trace in traces for span in trace if span["name"] == "config.apply"}
            names = {(span["service"], span["name"]) for trace in traces for span in trace}
            whole = {("gatewayd", PUT), ("configd", PUT), ("configd", "config.commit")}
            return traces if applied == NODES and names >= whole else None

        traces = self.wait_for("an apply on hp1, hp2 and hp3", complete)
        self.assertEqual(len(traces), 1)
        by_id = {span["span"]: span for span in traces[0]}

        def path(span):
            own = (span["service"], span["name"], span["kind"])
            return (*path(by_id[span["parent"]]), own) if span["parent"] else (own,)

        client, server, producer, consumer = 3, 2, 4, 5
        commit = (
            ("pvecm", "pvecm cfg put", client),
            ("pvecm", PUT, client),
            ("gatewayd", PUT, server),
            ("gatewayd", PUT, client),
            ("configd", PUT, server),
            ("configd", "config.commit", producer),
        )
        applies = [span for span in traces[0] if span["name"] == "config.apply"]
        self.assertEqual({span["node"] for span in applies}, NODES)
        for span in applies:
            self.assertEqual(path(span), (*commit, ("configd", "config.apply", consumer)), span["node"])
        self.assertEqual(len(traces[0]), len(commit) + len(NODES))


class TraceInTheSink(OneTrace, unittest.TestCase):
    """Straight into the sink."""

    @classmethod
    def collector(cls):
        return cls.sink.address


@unittest.skipUnless(rotel_program(), "the collector rotel cannot be installed here")
class TraceThroughRotel(OneTrace, unittest.TestCase):
    """Through rotel, a collector that others have written."""

    @classmethod
    def collector(cls):
        return cls.sink.rotel(rotel_program())


if __name__ == "__main__":
    unittest.main()
