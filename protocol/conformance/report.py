"""The report of a run: the verdict on each scenario, and on each section of the specification. Sans-IO."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from protocol import limits
from protocol.conformance.player import Result, Verdict
from protocol.conformance.sections import NOT_COVERED, RULES


def sections_of(results: Iterable[Result]) -> dict[str, Verdict]:
    """The verdict on each section, in their order: failed if a scenario about it failed, left out if all were.

    Every scenario is about the rules that hold at any time; one that was broken fails its own section beside them.
    """
    verdicts: defaultdict[str, set[Verdict]] = defaultdict(set)
    for result in results:
        for section in result.scenario.sections:
            verdicts[section].add(result.verdict)
        for section in RULES if result.verdict == "passed" else ():
            verdicts[section].add("passed")
        if result.section is not None:
            verdicts[result.section].add("failed")
    order: tuple[Verdict, ...] = ("failed", "passed", "left out")
    return {section: next(each for each in order if each in verdicts[section]) for section in sorted(verdicts, key=_by)}


def _by(section: str) -> list[int]:
    return [int(part) for part in section.split(".")]


def as_json(client: str, results: Sequence[Result]) -> dict[str, Any]:
    """The report for programs."""
    scenarios = [
        {
            "name": result.scenario.name,
            "title": result.scenario.title,
            "sections": result.scenario.sections,
            "verdict": result.verdict,
            "seconds": round(result.seconds, 3),
            "reason": result.reason,
            "step": result.step,
            "section": result.section,
        }
        for result in results
    ]
    return {
        "client": client,
        "protocol_version": limits.PROTOCOL_VERSION,
        "scenarios": scenarios,
        "sections": sections_of(results),
        "not_covered": NOT_COVERED,
    }


def as_table(client: str, results: Sequence[Result]) -> str:
    """The report for people."""
    count = {verdict: sum(each.verdict == verdict for each in results) for verdict in ("passed", "failed", "left out")}
    numbers = ", ".join(f"{number} {verdict}" for verdict, number in count.items())
    rows = [
        (each.scenario.name, each.verdict, f"{each.seconds:.1f}", " ".join(each.scenario.sections)) for each in results
    ]
    lines = [f"{client}, version {limits.PROTOCOL_VERSION} of the protocol: {numbers}", ""]
    lines += _aligned([("scenario", "verdict", "s", "sections"), *rows])
    lines += ["", *_aligned([("section", "verdict"), *sections_of(results).items()])]
    for each in results:
        if each.reason:
            where = "" if each.step is None else f", step {each.step}"
            lines += ["", f"{each.scenario.name}{where}: {each.scenario.title}", f"    {each.reason}"]
    lines += ["", "Sections without a scenario:"]
    for reason in dict.fromkeys(NOT_COVERED.values()):
        lines.append(f"    {' '.join(section for section, why in NOT_COVERED.items() if why == reason)}: {reason}")
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
