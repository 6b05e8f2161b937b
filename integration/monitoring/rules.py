"""The alerts and dashboards of docker/, and what Prometheus is asked because of them."""

import glob
import json
import os
import re

ETC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docker/etc")
RULES = os.path.join(ETC, "prometheus/alerts.yml")
CONFIG = os.path.join(ETC, "prometheus/prometheus.yml")
RULE_TESTS = os.path.join(ETC, "prometheus/alerts.test.yml")

# Metrics of a node, with what stands in braces behind them.
SELECTOR = re.compile(r"\b((?:up\b|(?:membership|quorum|store|rpc|quorate|guest|migration|gateway)_)\w*)(\{[^}]*\})?")
# A healthy cluster has no calls with such a code.
FAILING_CODE = re.compile(r',?\s*code=~"[^"]*"')


def dashboards():
    """All dashboards by file name."""
    paths = sorted(glob.glob(os.path.join(ETC, "grafana/dashboards/*.json")))
    found = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            found[os.path.basename(path)] = json.load(file)
    return found


def query(expression, cluster, window):
    """A panel's expression with Grafana's variables filled in."""
    known = {"$__rate_interval": window, "$cluster": cluster, "$node": ".*"}
    for variable, value in known.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, f"an unknown variable: {expression}"
    return expression


def alerts():
    """The expression of each alert."""
    with open(RULES, encoding="utf-8") as file:
        text = file.read()
    pairs = re.findall(r"- alert: (\w+)\n\s+expr: (.+)\n", text)
    assert len(pairs) == text.count("- alert:"), "an alert was not understood: one line for each expression"
    return dict(pairs)


def impatient_rules(seconds):
    """The rules with shorter waits, so that a test sees them fire."""
    with open(RULES, encoding="utf-8") as file:
        return re.sub(r"\bfor: \w+", f"for: {seconds}s", file.read())


def selectors(expression):
    """Which metrics an expression reads, with their matchers."""
    found = (name + FAILING_CODE.sub("", braces) for name, braces in SELECTOR.findall(expression))
    return sorted({selector for selector in found if selector})
