"""The rules and the dashboard that ship beside the metrics: every name in them is one that is exported, and the rules do what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from atlas_ops import metrics

FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
RULES = FOLDER / "prometheus-rules.yml"
TESTS = FOLDER / "prometheus-rules-test.yml"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text())
PROMTOOL = shutil.which("promtool")
NAME = re.compile(r"\batlas_ops_\w+")


def rules() -> list[dict[str, Any]]:
    found = YAML(typ="safe").load(RULES)
    return [rule for group in found["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_every_metric_that_a_rule_asks_for_is_exported() -> None:
    asked = {name for rule in rules() for name in NAME.findall(rule["expr"])}
    assert asked and asked <= set(metrics.names())


def test_every_metric_on_the_dashboard_is_exported() -> None:
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    asked |= {name for one in DASHBOARD["templating"]["list"] for name in NAME.findall(str(one.get("definition", "")))}
    assert asked and asked <= set(metrics.names())


def test_every_metric_in_the_tests_of_the_rules_is_exported() -> None:
    assert set(NAME.findall(TESTS.read_text())) <= set(metrics.names())


def test_every_rule_is_tested_to_fire_and_says_what_to_do() -> None:
    fired = {
        one["alertname"]
        for test in YAML(typ="safe").load(TESTS)["tests"]
        for one in test["alert_rule_test"]
        if "exp_alerts" in one
    }
    assert fired == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical") and set(rule["annotations"]) == {
            "summary",
            "description",
        }


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool on this machine (Debian's package prometheus)")
@pytest.mark.parametrize("words", [("check", "rules", RULES.name), ("test", "rules", TESTS.name)])
def test_promtool_agrees(words: tuple[str, ...]) -> None:
    done = subprocess.run([str(PROMTOOL), *words], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_can_be_imported_as_it_is() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] and panel["title"] for panel in panels)
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels), "of no one machine"
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool on this machine (Debian's package prometheus)")
def test_the_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    asked = [
        expression.replace("$database", "production").replace("$table", "public.messages")
        for expression in expressions()
    ]
    records = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": records}]}))
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and f"{len(asked)} rules found" in done.stdout, done.stdout + done.stderr
