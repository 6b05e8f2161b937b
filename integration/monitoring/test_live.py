"""A Prometheus that reads a real cluster: every panel has data, alerts fire when nodes are lost, and end when they are back."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import rules
from nodes import PATIENCE_SECONDS, Cluster

CLUSTER = "lab"
METRICS_PORT = 9100
# Prometheus reads so often; the windows of rates have a few readings in them.
SCRAPE = "1s"
WINDOW = "15s"
# So long must a condition last for an alert to fire, instead of minutes.
IMPATIENCE_SECONDS = 2
EVERY_SECONDS = 0.5


class Prometheus:
    """A Prometheus that reads some nodes and evaluates the alerts; a context that ends it."""

    def __init__(self, targets):
        self.dir = tempfile.mkdtemp(prefix="quorate-prometheus-")
        alerts = os.path.join(self.dir, "alerts.yml")
        with open(alerts, "w", encoding="utf-8") as file:
            file.write(rules.impatient_rules(IMPATIENCE_SECONDS))
        static = [{"targets": [at], "labels": {"cluster": CLUSTER, "node": node}} for node, at in targets.items()]
        # JSON is YAML as well.
        config = {
            "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE},
            "rule_files": [alerts],
            "scrape_configs": [{"job_name": "quorate", "static_configs": static}],
        }
        with open(os.path.join(self.dir, "prometheus.yml"), "w", encoding="utf-8") as file:
            json.dump(config, file)

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.log = open(os.path.join(self.dir, "log"), "w", encoding="utf-8")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={self.dir}/prometheus.yml", f"--storage.tsdb.path={self.dir}/data",
             f"--web.listen-address={self.address}"],
            stdout=self.log, stderr=self.log,
        )
        until("Prometheus is ready", self.not_ready)
        return self

    def not_ready(self):
        """Why it does not answer yet."""
        try:
            urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=20).close()
        except urllib.error.URLError as error:
            return error
        return None

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def query(self, expression):
        """The samples of an instant query."""
        url = f"http://{self.address}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error

    def firing(self):
        """Names of the alerts that fire."""
        return {sample["metric"]["alertname"] for sample in self.query('ALERTS{alertstate="firing"}')}


def until(what, condition):
    """Waits until a condition holds; `condition` returns what is still wrong."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while wrong := condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: {wrong}")
        time.sleep(EVERY_SECONDS)


class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(Cluster(3))
        nodes = ["hp1", "hp2", "hp3"]
        targets = {node: f"{cls.cluster.address(node)}:{METRICS_PORT}" for node in nodes}
        cls.prometheus = cls.enterClassContext(Prometheus(targets))

    def work(self):
        """A write, a read, and a read that fails, so that every kind of metric has something to tell."""
        self.cluster.pvecm("hp2", "cfg", "put", "monitoring.cfg", stdin="some: thing\n")
        self.cluster.pvecm("hp1", "cfg", "get", "monitoring.cfg")
        with self.assertRaises(AssertionError):
            self.cluster.pvecm("hp3", "cfg", "get", "no-such-file")

    def silent(self, expressions):
        """Those of the expressions, by where they stand, that have no data."""
        self.work()
        return [f"{where}: {expression}" for where, expression in expressions if not self.prometheus.query(expression)]

    def test_1_every_panel_has_data(self):
        panels = [
            (f"{name}: {panel['title']}", rules.query(target["expr"], CLUSTER, WINDOW))
            for name, board in rules.dashboards().items()
            for panel in board["panels"]
            for target in panel["targets"]
        ]
        self.assertGreater(len(panels), 50)
        until("panels without data", lambda: self.silent(panels))

    def test_2_every_metric_of_an_alert_is_there(self):
        read = [(alert, selector) for alert, text in rules.alerts().items() for selector in rules.selectors(text)]
        self.assertGreater(len(read), 20)
        # Told only while a node that was removed is heard; cluster-tests' removed.rs removes one.
        read = [(alert, selector) for alert, selector in read if "removed_node_transmitting" not in selector]
        until("alerts without data", lambda: self.silent(read))

    def test_3_alerts_fire_when_nodes_are_lost_and_end_when_they_are_back(self):
        def missing(*wanted):
            return lambda: set(wanted) - self.prometheus.firing()

        until("a healthy cluster raises nothing", lambda: self.prometheus.firing())
        self.cluster.playground("kill", "hp3")
        until("one of three lost", missing("QuorateNodeDown", "QuorateOneVoteAway", "QuorateVotesMissing"))
        self.assertNotIn("QuorateNoQuorum", self.prometheus.firing())
        self.cluster.playground("kill", "hp2")
        until("two of three lost", missing("QuorateNoQuorum", "QuorateNodeNotQuorate"))
        for node in ("hp2", "hp3"):
            self.cluster.playground("start", node)
        # A ring that was formed so often in a few minutes is told as unstable, and rightly so.
        until("all are back", lambda: self.prometheus.firing() - {"QuorateRingUnstable"})


if __name__ == "__main__":
    unittest.main()
