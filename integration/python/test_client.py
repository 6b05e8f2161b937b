"""A client that knows nothing but reflection reads, writes and watches files over TLS."""

import subprocess
import sys
import threading
import unittest

import grpc

from nodes import PATIENCE_SECONDS, Cluster
from quorate_files import SERVICE, ConfigClient, open_channel


class Client(unittest.TestCase):
    """One node is enough: the protocol between nodes is not what is tested here."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(Cluster(1))
        cls.options = cls.cluster.credentials("hp1")

    def open(self):
        channel = open_channel(**self.options)
        self.addCleanup(channel.close)
        return ConfigClient(channel)

    def run_tool(self, *arguments, stdin=""):
        options = [word for name, value in self.options.items() for word in (f"--{name}", value)]
        command = [sys.executable, "quorate_files.py", *options, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    def test_reflection_lists_the_services_of_all_daemons(self):
        services = self.open().services()
        for name in ("config.v1.ConfigService", "quorum.v1.QuorumService", "gateway.v1.ClusterService"):
            self.assertIn(f"quorate.{name}", services)

    def test_what_python_writes_the_command_line_reads_and_the_other_way_round(self):
        written = self.run_tool("put", "python.cfg", stdin="from: python\n")
        self.assertEqual(written.returncode, 0, written.stderr)
        self.assertEqual(self.cluster.pvecm("hp1", "cfg", "get", "python.cfg"), "from: python\n")

        self.cluster.pvecm("hp1", "cfg", "put", "cli.cfg", stdin="from: pvecm\n")
        self.assertEqual(self.run_tool("get", "cli.cfg").stdout, "from: pvecm\n")

    def test_a_watch_resumes_after_a_version_without_missing_a_change(self):
        client = self.open()
        first = client.call("Put", path="watched-1", content=b"1").entry.version
        client.call("Put", path="watched-2", content=b"2")
        client.call("Put", path="watched-3", content=b"3")
        seen = self.run_tool("watch", "", "--after", str(first), "--count", "2")
        paths = [line.split()[1] for line in seen.stdout.splitlines()]
        self.assertEqual(paths, ["watched-2", "watched-3"], seen.stderr)

    def test_a_change_through_the_command_line_arrives_in_a_running_watch(self):
        changes = self.open().watch(prefix="live")
        deadline = threading.Timer(PATIENCE_SECONDS, changes.cancel)
        deadline.start()
        self.addCleanup(changes.cancel)
        self.addCleanup(deadline.cancel)
        self.assertEqual(list(next(changes).changes), [], "the first answer says that the watch has begun")
        self.cluster.pvecm("hp1", "cfg", "put", "elsewhere.cfg", stdin="not below the prefix\n")
        self.cluster.pvecm("hp1", "cfg", "put", "-p", "live/new.cfg", stdin="by pvecm\n")
        paths = []
        while "live/new.cfg" not in paths:
            paths += [change.entry.path for change in next(changes).changes]
        self.assertEqual(paths, ["live", "live/new.cfg"])

    def test_a_write_against_another_version_is_refused(self):
        client = self.open()
        client.call("Put", path="versioned", content=b"1")
        with self.assertRaises(grpc.RpcError) as refused:
            client.call("Put", path="versioned", content=b"2", expected_version=1)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.ABORTED)

    def test_a_file_that_is_not_there_is_told_by_its_code(self):
        missing = self.run_tool("get", "no-such-file")
        self.assertEqual(missing.returncode, 1)
        self.assertTrue(missing.stderr.startswith("NOT_FOUND: "), missing.stderr)

    def test_without_a_certificate_nothing_is_read(self):
        with open(self.options["ca"], "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        with grpc.secure_channel(self.options["target"], credentials) as channel:
            get = channel.unary_unary(f"/{SERVICE}/Get")
            with self.assertRaises(grpc.RpcError) as refused:
                get(b"", timeout=PATIENCE_SECONDS)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAUTHENTICATED)

    def test_without_a_certificate_not_even_the_services_are_listed(self):
        with open(self.options["ca"], "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        with grpc.secure_channel(self.options["target"], credentials) as channel:
            for version in ("v1", "v1alpha"):
                ask = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
                with self.assertRaises(grpc.RpcError) as refused:
                    list(ask(iter([b""]), timeout=PATIENCE_SECONDS))
                self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAUTHENTICATED)


if __name__ == "__main__":
    unittest.main()
