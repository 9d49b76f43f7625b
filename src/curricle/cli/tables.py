"""The tables that commands print."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from curricle.checkpoints.lineage import Link
from curricle.reporting.gates import GateState
from curricle.reporting.summary import check_bound, shown


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    return table


def gates_table(gates: tuple[GateState, ...]) -> Table:
    """Return a line a check, and a line a gate that has none."""
    table = _table("stage", "metric", "value", "bound", "verdict", "certificate")
    for gate in gates:
        certificate = gate.state.certificate
        name = f"{certificate.hash[:12]} " if certificate else ""
        note = Text(f"{name}{gate.note}", style="green" if gate.is_open else "yellow")
        if not gate.checks:
            table.add_row(gate.state.stage, "", "", "", Text("closed", style="red"), note)
        for number, check in enumerate(gate.checks):
            table.add_row(
                gate.state.stage if number == 0 else "",
                check["metric"],
                shown(check["value"]),
                check_bound(check),
                _verdict(check["passed"], check["severity"]),
                note if number == 0 else "",
            )
    return table


def lineage_table(links: tuple[Link, ...]) -> Table:
    """Return a line a certificate, the root first."""
    table = _table("stage", "certificate", "candidate", "fingerprint", "parent", "files", "verdict")
    for link in links:
        certificate = link.certificate
        table.add_row(
            certificate.stage,
            certificate.hash[:16],
            certificate.candidate.digest[:16],
            certificate.candidate.fingerprint,
            certificate.parent.hash[:16] if certificate.parent else "-",
            str(link.files),
            Text("broken", style="red") if link.problems else Text("proven", style="green"),
        )
    return table


def _verdict(passed: bool, severity: str) -> Text:
    if passed:
        return Text("open", style="green")
    return Text("warning", style="yellow") if severity == "warn" else Text("closed", style="red")
