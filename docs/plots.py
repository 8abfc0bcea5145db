"""Make the figures and the table of the page on benchmarks from its recorded results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

GOOD, BAD, BOUND = "#1a7f37", "#b35900", "#111111"
# keep text as text, so that it can be searched; the same numbers make the same file
STYLE = {"svg.hashsalt": "nwb-extfiles", "svg.fonttype": "none", "font.size": 10}


def draw_ratios(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the measured ratios and their targets."""
    shown = [entry for entry in results if entry["bound"] is not None and entry["unit"] == "x"]
    figure = Figure(figsize=(9, 0.42 * len(shown) + 1), layout="constrained")
    axes = figure.subplots()
    for row, entry in enumerate(reversed(shown)):
        color = GOOD if entry["value"] <= entry["bound"] else BAD
        axes.barh(row, entry["value"], color=color, height=0.6)
        axes.plot([entry["bound"]] * 2, [row - 0.42, row + 0.42], color=BOUND, linewidth=2)
        beyond = (max(entry["value"], entry["bound"]), row)
        axes.annotate(f"{entry['value']:.3g}", beyond, xytext=(5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(shown)), [f"{entry['what']}\nagainst {entry['against']}" for entry in reversed(shown)])
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(right=4)
    axes.axvline(1, color="#888888", linewidth=0.8, linestyle=":")
    axes.set_xlabel("time as a multiple of the other's; the line is the target")
    figure.savefig(path, metadata={"Date": None})


def draw_growth(results: list[dict[str, Any]], path: Path) -> None:
    """Draw how time and memory grow with the number of references and files."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    kinds = (
        ("wall a reference", "references in a file", "ms for each reference"),
        ("wall a file", "files", "ms for each file"),
        ("memory at most", "files", "MB of memory at most"),
    )
    for axes, (measured, of, label) in zip(figure.subplots(1, len(kinds)), kinds, strict=True):
        entries = [entry for entry in results if entry["measured"] == measured]
        axes.plot([entry["count"] for entry in entries], [entry["value"] for entry in entries], "o-", color=GOOD)
        axes.set_xscale("log")
        axes.set_ylim(0, 1.2 * max(entry["value"] for entry in entries))
        axes.set_xlabel(of)
        axes.set_ylabel(label)
    figure.savefig(path, metadata={"Date": None})


def table(record: dict[str, Any]) -> str:
    """Write the results and what they were measured with, in Markdown."""
    lines = ["| what | against | measured | value | target |", "|---|---|---|---|---|"]
    for entry in record["results"]:
        value = f"{_number(entry['value'])} {_unit(entry['unit'])}"
        aim = "" if entry["bound"] is None else f"{_number(entry['bound'])} {_unit(entry['unit'])}"
        against = "" if entry["against"] == "-" else entry["against"]
        missed = entry["bound"] is not None and entry["value"] > entry["bound"]
        lines.append(
            f"| {entry['what']} | {against} | {entry['measured']} | {f'**{value}**' if missed else value} | {aim} |"
        )
    return "\n".join(
        (
            f"{record['processors']} processors, {record['system']}, Python {record['python']}; medians of "
            f"{record['rounds']} rounds, sizes times {record['scale']:g}. Missed targets are bold.",
            "",
            *lines,
            "",
        )
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}" if abs(value) < 0.1 else f"{value:.3g}"


def _unit(unit: str) -> str:
    return "×" if unit == "x" else unit  # noqa: RUF001  # the sign is meant


def make(recorded: Path, folder: Path) -> None:
    """Make all of them from a record, in a folder."""
    record = json.loads(recorded.read_text(encoding="utf-8"))
    with mpl.rc_context(STYLE):
        draw_ratios(record["results"], folder / "_ratios.svg")
        draw_growth(record["results"], folder / "_growth.svg")
    (folder / "_results.md").write_text(table(record), encoding="utf-8")
