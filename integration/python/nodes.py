"""Real nodes for the tests: a playground with a cluster on it, started with the command line alone."""

import json
import os
import shutil
import subprocess
import tempfile

BIN = os.environ.get("QUORATE_BIN_DIR", "")
PATIENCE_SECONDS = 120


class Cluster:
    """Some nodes in one cluster; a context that takes them away at its end."""

    def __init__(self, count, **environment):
        self.count = count
        self.environment = {**os.environ, **environment}
        self.dir = tempfile.mkdtemp(prefix="quorate-py-")

    def __enter__(self):
        self.playground("up", "--nodes", str(self.count))
        try:
            self.pvecm("hp1", "create", "python")
            address = self.address("hp1")
            for number in range(2, self.count + 1):
                token = json.loads(self.pvecm("hp1", "token", "create", "-o", "json"))["token"]
                self.pvecm(f"hp{number}", "add", address, "--token", token)
        except Exception:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.playground("down")
        shutil.rmtree(self.dir, ignore_errors=True)

    def playground(self, *arguments, stdin=""):
        """Runs `playground`; what it printed."""
        command = [os.path.join(BIN, "playground"), "--dir", self.dir, *arguments]
        done = subprocess.run(
            command, input=stdin, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def pvecm(self, node, *arguments, stdin=""):
        """Runs `pvecm` on a node; what it printed."""
        return self.playground("exec", node, "--", "pvecm", *arguments, stdin=stdin)

    def address(self, node):
        """Its IP address."""
        with open(os.path.join(self.dir, "playground.json"), encoding="utf-8") as file:
            nodes = json.load(file)["nodes"]
        return next(known["address"] for known in nodes if known["name"] == node)

    def credentials(self, node):
        """Options of `quorate_files.py` to call a node's gateway with that node's own certificate."""
        state = os.path.join(self.dir, node, "var/lib/quorate/gatewayd")
        authority = os.path.join(self.dir, "ca.pem")
        with open(authority, "w", encoding="utf-8") as file:
            file.write(self.pvecm(node, "cfg", "get", "pve-root-ca.pem"))
        return {
            "target": f"{self.address(node)}:8006",
            "ca": authority,
            "cert": os.path.join(state, "node.pem"),
            "key": os.path.join(state, "node.key"),
        }
