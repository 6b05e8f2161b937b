"""One command is one trace: from pvecm through the daemons to the apply on every node."""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

from nodes import PATIENCE_SECONDS, Cluster

# Between two looks at what has arrived: the exporters hand over what they have every few seconds.
EVERY_SECONDS = 0.2


class Trace(unittest.TestCase):
    """Three nodes export to one sink."""

    @classmethod
    def setUpClass(cls):
        cls.spans_path = os.path.join(tempfile.mkdtemp(prefix="quorate-spans-"), "spans.jsonl")
        sink = subprocess.Popen(
            [sys.executable, "trace_sink.py", "127.0.0.1:0", cls.spans_path], stdout=subprocess.PIPE, text=True
        )
        cls.addClassCleanup(sink.communicate)
        cls.addClassCleanup(sink.kill)
        address = sink.stdout.readline().strip()
        cls.cluster = cls.enterClassContext(Cluster(3, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{address}"))

    def spans(self):
        if not os.path.exists(self.spans_path):
            return []
        with open(self.spans_path, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.endswith("\n")]

    def trace_of(self, command):
        """The spans of the last trace that began with this command."""
        spans = self.spans()
        roots = [span for span in spans if span["service"] == "pvecm" and span["name"] == command]
        return [span for span in spans if roots and span["trace"] == roots[-1]["trace"]]

    def wait_for(self, what, look):
        deadline = time.monotonic() + PATIENCE_SECONDS / 4
        while not (found := look()):
            self.assertLess(time.monotonic(), deadline, f"gave up waiting for {what}; seen: {self.trace_of('pvecm cfg')}")
            time.sleep(EVERY_SECONDS)
        return found

    def test_a_write_is_one_trace_with_an_apply_on_every_node(self):
        self.cluster.pvecm("hp2", "cfg", "put", "traced.cfg", stdin="a: b\n")

        def complete():
            trace = self.trace_of("pvecm cfg")
            applied = {span["node"] for span in trace if span["service"] == "configd" and "apply" in span["name"]}
            services = {span["service"] for span in trace}
            return trace if applied == {"hp1", "hp2", "hp3"} and services >= {"pvecm", "gatewayd", "configd"} else None

        trace = self.wait_for("an apply on hp1, hp2 and hp3", complete)
        known = {span["span"] for span in trace}
        roots = [span for span in trace if span["parent"] not in known]
        self.assertEqual([(span["service"], span["parent"]) for span in roots], [("pvecm", "")])


if __name__ == "__main__":
    unittest.main()
