"""Writes down what a run came to, for each device: as JSON for programs, and as Markdown for people.

A callback and not a task at the end, because a run that stops at the canary has no further tasks.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: report
type: aggregate
short_description: Report of a run over a fleet of limen devices
description:
  - Writes NAME-TIME.json and NAME-TIME.md for each playbook that asks limen devices for something.
options:
  folder:
    description: Where reports go. Made where it is missing. Without it there are none.
    type: path
    env:
      - name: LIMEN_FLEET_REPORTS
    ini:
      - section: limen_fleet
        key: reports
requirements:
  - enabled in ansible.cfg (callbacks_enabled)
"""

DEVICE = "limen.fleet.device"
WORST_FIRST = ["failed", "unreachable", "untouched", "ok"]


class CallbackModule(CallbackBase):
    """`limen.fleet.report`."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "limen.fleet.report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.playbook = "fleet"
        self.began = time.time()
        self.plan: dict[str, Any] = {}
        self.hosts: dict[str, dict[str, Any]] = {}

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self.playbook = os.path.splitext(os.path.basename(playbook._file_name))[0]

    def v2_runner_on_ok(self, result: Any) -> None:
        facts = result._result.get("ansible_facts") or {}
        # Which devices this run is about, also those that it does not come to.
        self.plan = facts.get("limen_fleet_plan", self.plan)
        self.note(result, "ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self.note(result, "failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self.note(result, "unreachable")

    def note(self, result: Any, outcome: str) -> None:
        """One task of one device. Of several the last one counts, unless one before it failed."""
        if result._task.resolved_action != DEVICE:
            return
        told = result._result
        host = self.hosts.setdefault(result._host.get_name(), {"outcome": "ok", "changed": False})
        # A loop has its answers below.
        answers = [item for item in told.get("results", [told]) if isinstance(item, dict)]
        for one in answers:
            answer = one.get("answer") or {}
            if one.get("verb") in (None, "receive") and outcome == "ok":
                continue
            host.update(verb=one.get("verb"), message=one.get("msg"), outcome=outcome)
            host["changed"] = host["changed"] or bool(one.get("changed"))
            for key, value in (
                ("version", answer.get("version") or answer.get("limen")),
                ("took_s", one.get("took_s")),
                ("back_s", answer.get("back_seconds")),
                ("health", answer.get("health")),
            ):
                if value is not None:
                    host[key] = value

    def v2_playbook_on_stats(self, stats: Any) -> None:
        for name in self.plan.get("hosts", []):
            self.hosts.setdefault(name, {"outcome": "untouched", "changed": False, "message": "the run did not come to it"})
        folder = self.get_option("folder")
        if not self.hosts:
            return
        counts = {outcome: sum(host["outcome"] == outcome for host in self.hosts.values()) for outcome in WORST_FIRST}
        summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        self._display.display(f"fleet: {summary}, {time.time() - self.began:.0f} s")
        if not folder:
            return
        report = {
            "playbook": self.playbook,
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.began)),
            "seconds": round(time.time() - self.began, 1),
            "plan": {key: value for key, value in self.plan.items() if key != "hosts"},
            "counts": counts,
            "hosts": dict(sorted(self.hosts.items())),
        }
        os.makedirs(folder, exist_ok=True)
        base = os.path.join(folder, f"{self.playbook}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(self.began))}")
        with open(f"{base}.json", "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2, sort_keys=True)
            file.write("\n")
        with open(f"{base}.md", "w", encoding="utf-8") as file:
            file.write(markdown(report, summary))
        self._display.display(f"fleet: report in {base}.md")


def cell(value: Any) -> str:
    """Text that stays in its cell: messages come from devices."""
    return " ".join(str("" if value is None else value).split()).replace("|", "\\|").replace("<", "&lt;")[:300]


def markdown(report: dict[str, Any], summary: str) -> str:
    """The report for people, what went wrong first."""
    lines = [f"# {report['playbook']}, {report['began']}", "", f"{summary}; {report['seconds']:.0f} s.", ""]
    lines += [f"- {key}: {cell(value)}" for key, value in sorted(report["plan"].items())]
    lines += ["", "| device | outcome | version | took | what it said |", "| --- | --- | --- | --- | --- |"]
    ordered = sorted(report["hosts"].items(), key=lambda item: (WORST_FIRST.index(item[1]["outcome"]), item[0]))
    for name, host in ordered:
        took = f"{host['took_s']} s" if "took_s" in host else ""
        lines.append(f"| {cell(name)} | {host['outcome']} | {cell(host.get('version'))} | {took} | {cell(host.get('message'))} |")
    return "\n".join(lines) + "\n"
