"""Scrape configuration and alert rules: names, labels, paragraphs of the runbook, and what promtool says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from runtime.config import PORT_STEP, Config
from runtime.metrics.table import METRICS
from runtime.operations import operator_port
from server.cli.checks import machine, outside
from server.cli.parser import parser
from tests.ops.make_dashboard import dashboard
from tests.ops.ops_world import OF_PROMETHEUS, OPERATIONS, OPS, ROOT, commands_of, metrics_in, runbook
from tests.prometheus_server import faster, faster_rules

FOLDER: Final = OPS / "prometheus"
RULES: Final[list[dict[str, Any]]] = [
    rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]
]

OF_OTHERS: Final = {
    "up": "Prometheus itself: whether a scrape was answered",
    "node_filesystem_avail_bytes": "node_exporter",
    "node_filesystem_size_bytes": "node_exporter",
    "probe_ssl_earliest_cert_expiry": "blackbox_exporter",
    "probe_success": "blackbox_exporter",
}
"""Metrics of other programs that rules read, and their programs."""

PROMTOOL: Final = shutil.which(ROOT / ".venv" / "ops" / "usr" / "bin" / "promtool") or shutil.which("promtool")

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


@each_rule
def test_a_rule_reads_metrics_of_the_table_with_their_labels_and_values(rule: dict[str, Any]) -> None:
    expression = rule["expr"]
    found = metrics_in(expression)
    names = set(re.findall(r"\b(?:up|(?:alo|node|probe|process|pg|redis)_\w+)\b(?=[\[{\s)]|$)", expression))
    assert names == {each.series for each in found} | (names & OF_OTHERS.keys()), expression
    assert names, expression
    for each in found:
        for label, values in each.matchers:
            assert label in each.metric.labels, f"{each.series}: {label}"
            described = each.metric.labels[label]
            for value in values:
                assert "`" not in described or _may_be(value, described), f"{label}={value}: {described}"


def _may_be(value: str, described: str) -> bool:
    """Whether the table lists a value, or describes the values as those of another table."""
    if re.search(r"\b(name of|file and name|as in|such as)\b", described):
        return True
    listed = re.findall(r"`([^`]+)`", described)
    return value in listed or any(re.fullmatch(r"\dxx", value) and re.fullmatch(r"\dxx", each) for each in listed)


@each_rule
def test_a_rule_rates_counters_and_histograms_and_nothing_else(rule: dict[str, Any]) -> None:
    """A counter by itself only grows, and the rate of a gauge says nothing; its changes may be counted."""
    for each in metrics_in(rule["expr"]):
        reads_range = each.is_range
        assert reads_range or each.metric.kind == "gauge", each.series
        if each.metric.kind == "gauge" and reads_range:
            assert "changes(" in rule["expr"]


@each_rule
def test_a_rule_keeps_the_labels_that_its_summary_names(rule: dict[str, Any]) -> None:
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    by = re.findall(r"by \(([^)]*)\)", rule["expr"])
    kept = set.intersection(*({label.strip() for label in each.split(",")} for each in by)) if by else None
    if kept is None and not re.match(r"(absent|sum|max)\(", rule["expr"]):
        read = {label for each in metrics_in(rule["expr"]) for label in each.metric.labels}
        kept = read | OF_PROMETHEUS | {"mountpoint"}
    assert named <= (kept or set())


@each_rule
def test_a_rule_has_a_paragraph_of_the_runbook_that_its_url_leads_to(rule: dict[str, Any]) -> None:
    name, url = rule["alert"], rule["annotations"]["runbook_url"]
    assert url == f"docs/operations.md#{name.lower()}"
    paragraph = runbook(name)
    assert len(paragraph.split()) > 25, "what it means, what users notice, and what to do"
    assert "`" in paragraph, "a command, a log event or a metric to look at next"


@each_rule
def test_a_paragraph_of_the_runbook_names_commands_as_operators_may_type_them(rule: dict[str, Any]) -> None:
    for words in commands_of(rule["alert"]):
        parser().parse_args(words)


def test_the_runbook_has_no_paragraph_without_a_rule() -> None:
    assert re.findall(r"^#### (\w+)$", OPERATIONS, re.MULTILINE) == [rule["alert"] for rule in RULES]


@pytest.mark.parametrize(
    ("alert", "limit"),
    [("AloDiskNearlyFull", f"< {machine.LOW:g}"), ("AloCertificateEnds", f"< {outside.ENDS_S / 86400:g} * 86400")],
)
def test_the_doctor_warns_at_the_limit_of_the_alert_that_sends_operators_to_it(alert: str, limit: str) -> None:
    [expression] = [rule["expr"] for rule in RULES if rule["alert"] == alert]
    assert expression.endswith(limit)


def test_no_two_rules_have_one_name_and_each_is_critical_or_a_warning() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    assert {rule["labels"]["severity"] for rule in RULES} == {"critical", "warning"}


def test_prometheus_scrapes_the_ports_that_the_processes_have() -> None:
    [alo, *_] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    targets = {config["labels"]["process"]: config["targets"] for config in alo["static_configs"]}
    assert targets.keys() == {process for metric in METRICS for process in metric.processes}
    for process, addresses in targets.items():
        first = operator_port(Config(), process)
        assert addresses == [f"127.0.0.1:{first + step * PORT_STEP}" for step in range(len(addresses))]


def test_each_rule_has_a_test_of_promtool_that_fires_it_and_one_in_which_it_is_silent() -> None:
    tests = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
    expected = [case for test in tests for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in expected if case["exp_alerts"]}
    silent = {case["alertname"] for case in expected if not case["exp_alerts"]}
    assert fired == silent == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize(
    ("duration", "divided"), [("5m", "20000ms"), ("15s", "1000ms"), ("1h30m", "360000ms"), ("10ms", "1ms")]
)
def test_a_faster_clock_divides_a_duration(duration: str, divided: str) -> None:
    assert faster(duration, 15) == divided


def test_a_faster_clock_divides_all_times_of_the_rules_and_changes_nothing_else() -> None:
    given = (FOLDER / "rules.yml").read_text()
    rules = {
        rule["alert"]: rule for group in yaml.safe_load(faster_rules(given, 60))["groups"] for rule in group["rules"]
    }
    assert rules["AloCommitsSlow"]["for"] == "5000ms"
    assert 'seconds_bucket{queue="sends"}[5000ms]' in rules["AloCommitsSlow"]["expr"]
    assert rules["AloCertificateEnds"]["expr"].endswith("< 14 * 86400")
    for rule in RULES:
        slower = {**rules[rule["alert"]], "expr": re.sub(r"\[\d+ms\]", "[]", rules[rule["alert"]]["expr"])}
        if "for" in rule:
            slower["for"] = rule["for"]
        assert slower == {**rule, "expr": re.sub(r"\[\d+[smhd]\]", "[]", rule["expr"])}


@pytest.mark.ops
def test_promtool_accepts_the_rules_for_a_faster_clock(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(faster_rules((FOLDER / "rules.yml").read_text(), 60))
    ended = _promtool("check", "rules", str(file))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{len(RULES)} rules found" in ended.stdout


@pytest.mark.ops
@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")],
    ids=" ".join,
)
def test_promtool_accepts_what_lies_here(arguments: tuple[str, ...]) -> None:
    ended = _promtool(*arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.ops
def test_promtool_reads_each_expression_of_the_dashboard(tmp_path: Path) -> None:
    charts = [chart for panel in dashboard()["panels"] for chart in [panel, *panel.get("panels", [])]]
    expressions = [target["expr"] for chart in charts for target in chart.get("targets", [])]
    rules = [
        {"record": f"alo:chart:{number}", "expr": re.sub(r"\$__rate_interval", "5m", expression)}
        for number, expression in enumerate(expressions)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "charts", "rules": rules}]}))  # JSON is YAML
    ended = _promtool("check", "rules", str(file))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{len(expressions)} rules found" in ended.stdout


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None, "`make ops` installs it"
    return subprocess.run([PROMTOOL, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=240)
