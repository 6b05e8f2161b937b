"""What can be told of the alerts and dashboards without a cluster."""

import subprocess
import unittest

import rules


class Rules(unittest.TestCase):
    def promtool(self, *arguments):
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_promtool_accepts_rules_and_configuration(self):
        self.promtool("check", "rules", rules.RULES)
        self.promtool("check", "config", rules.CONFIG)

    def test_alerts_say_what_their_tests_expect(self):
        self.promtool("test", "rules", rules.RULE_TESTS)

    def test_selectors_are_found_with_their_matchers(self):
        found = rules.selectors('sum by (up) (rate(store_x_total{a="b"}[5m])) / on (node) up{job="q"} > quorum_q')
        self.assertEqual(found, ["quorum_q", 'store_x_total{a="b"}', "up", 'up{job="q"}'])


class Dashboards(unittest.TestCase):
    def test_each_has_an_identity_of_its_own_and_explains_its_panels(self):
        found = rules.dashboards()
        self.assertGreaterEqual(len(found), 5)
        self.assertEqual(len({board["uid"] for board in found.values()}), len(found))
        for name, board in found.items():
            self.assertIn("quorate", board["tags"], name)
            for panel in board["panels"]:
                where = f"{name}: {panel['title']}"
                self.assertTrue(panel["description"], where)
                self.assertTrue(panel["targets"], where)
                self.assertEqual(panel["datasource"]["uid"], "prometheus", where)

    def test_panels_do_not_overlap(self):
        for name, board in rules.dashboards().items():
            taken = {}
            for panel in board["panels"]:
                at = panel["gridPos"]
                self.assertLessEqual(at["x"] + at["w"], 24, name)
                for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
                    self.assertNotIn(cell, taken, f"{name}: {panel['title']}")
                    taken[cell] = panel["title"]


if __name__ == "__main__":
    unittest.main()
