"""The alert rules: every metric in them is one that a service has, and each fires when it should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from aggregator.metrics import Metrics
from broker.metrics import BrokerMetrics
from signals.metrics import TraderMetrics

FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "prometheus"
FILES = sorted(FOLDER.glob("*.rules.yml"))
RULES = [rule for file in FILES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
TESTS: dict[str, Any] = yaml.safe_load((FOLDER / "rules.test.yml").read_text())
BY_PROMETHEUS = {"instance", "job"}


def known() -> dict[str, set[str]]:
    """By the name of each series that a rule may name: its labels."""
    registry = CollectorRegistry()
    rooms = (Metrics(registry), BrokerMetrics(registry), TraderMetrics(registry))
    made = [each for room in rooms for each in vars(room).values() if hasattr(each, "_labelnames")]
    return {each._name + ("_total" if each._type == "counter" else ""): set(each._labelnames) for each in made}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_names_metrics_that_exist_by_labels_that_they_have(rule: dict[str, Any]) -> None:
    named = set(re.findall(r"fairmark_\w+", rule["expr"]))
    assert named
    metrics = known()
    assert named <= set(metrics)
    by = {label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"]) for label in group.split(", ")}
    matched = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", rule["expr"]))
    shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    for name in named:
        assert by | matched <= metrics[name] | BY_PROMETHEUS, name
    left = by if " by (" in rule["expr"] else set.intersection(*(metrics[name] for name in named)) | BY_PROMETHEUS
    assert shown <= left
    assert rule["labels"]["severity"] in {"page", "warn"}


def test_every_alert_is_tried_when_all_is_well_and_when_it_is_not() -> None:
    alerts = {rule["alert"] for rule in RULES}
    assert len(alerts) == len(RULES)
    assert set(TESTS["rule_files"]) == {file.name for file in FILES}
    well, wrong = TESTS["tests"]
    assert {each["alertname"] for each in well["alert_rule_test"]} == alerts
    fired = [sample["labels"] for sample in wrong["promql_expr_test"][0]["exp_samples"]]
    assert {re.findall(r'"(\w+)"', labels)[0] for labels in fired} == alerts


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on PATH: it comes with Prometheus")
def test_promtool_takes_the_rules_and_finds_them_to_fire_as_told() -> None:
    for command in (["check", "rules", *map(str, FILES)], ["test", "rules", str(FOLDER / "rules.test.yml")]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
