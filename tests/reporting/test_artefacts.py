"""Table, curves and report: the same functions for the pipeline and for a run that failed."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from curricle.agents.scoring import Attempt, Verdict
from curricle.checkpoints.certificate import Certificate
from curricle.pipelines.report.pipeline import create_pipeline
from curricle.reporting.artefacts import ARTEFACTS, write_artefacts
from curricle.reporting.curves import context_changes, curriculum_curves
from curricle.reporting.document import curriculum_report
from curricle.reporting.gains import stage_gains
from curricle.reporting.retention import (
    retention_curves,
    retention_numbers,
    retention_rows,
    retention_table,
)
from curricle.reporting.state import StageState, read_states
from curricle.reporting.table import curriculum_rows, curriculum_table
from curricle.reporting.viz_styles import write_styles
from tests.fabricated import Project, specs


@pytest.fixture
def states(project: Project) -> tuple[StageState, ...]:
    first = project.certify("pretrain", perplexity=80.0)
    second = project.certify("sft", first, assistant_token_accuracy=0.5, perplexity=100.0)
    worse = project.train("dpo", second, perplexity=400.0)
    project.judge("dpo", worse, {"perplexity": 400.0}, second)
    return read_states(project.catalog(), specs())


def test_forgetting_is_measured_against_the_first_stage(states: tuple[StageState, ...]) -> None:
    rows = {row["stage"]: row for row in curriculum_rows(states)}
    assert rows["pretrain"]["perplexity_kept"] == 1.0
    assert rows["sft"]["perplexity_kept"] == 1.25
    assert "perplexity_kept" not in rows["lora"]


def test_the_table_has_a_row_a_stage_and_what_it_cost(states: tuple[StageState, ...]) -> None:
    table = curriculum_table(states)
    assert list(table["stage"]) == ["pretrain", "sft", "dpo", "lora"]
    assert list(table["status"]) == ["certified", "certified", "closed", "not run"]
    assert table["seconds"].notna().sum() == 3


def test_each_stage_that_trained_has_a_curve(states: tuple[StageState, ...]) -> None:
    figure = curriculum_curves(states)
    assert [trace.name for trace in figure.data] == ["pretrain", "sft", "dpo"]


def test_a_figure_without_any_curve_says_so() -> None:
    assert "No stage" in curriculum_curves(()).layout.title.text


def test_a_longer_context_is_marked_at_its_first_step() -> None:
    points = [{"step": n, "seq_length": 128 if n < 3 else 256} for n in range(1, 5)]
    assert context_changes(points) == [(3, 256)]


def test_the_report_names_the_failed_check_and_the_parents(states: tuple[StageState, ...]) -> None:
    text = curriculum_report(states)
    assert "## dpo: closed" in text
    assert "perplexity 400 > 100" in text
    assert "(pretrain)" in text


def test_the_pipeline_makes_what_the_hook_would(
    project: Project, states: tuple[StageState, ...]
) -> None:
    left = create_pipeline().inputs()
    kinds = {"candidate": "candidate", "gate_report": "report", "checkpoint": "certificate"}
    held = {
        f"{state.stage}_{kind}": MemoryDataset(getattr(state, field) or {}, copy_mode="assign")
        for state in states[:3]
        for kind, field in kinds.items()
    }
    nothing = {name: MemoryDataset(False, copy_mode="assign") for name in left - held.keys()}
    catalog = DataCatalog({**held, **nothing, "curriculum_report": MemoryDataset()})
    made = SequentialRunner().run(create_pipeline().filter(node_names=["curriculum_report"]),
                                  catalog)  # fmt: skip
    assert "## sft: certified" in made["curriculum_report"].load()
    assert set(ARTEFACTS) == create_pipeline().outputs()


def test_an_artefact_that_cannot_be_written_does_not_hide_the_run(
    states: tuple[StageState, ...], caplog: pytest.LogCaptureFixture
) -> None:
    class Full(MemoryDataset):
        def save(self, data: object) -> None:
            raise OSError("no space left on device")

    with caplog.at_level(logging.WARNING):
        write_artefacts(DataCatalog({name: Full() for name in ARTEFACTS}), states)
    assert caplog.text.count("no space left") == len(ARTEFACTS)


def test_a_report_of_the_general_curriculum_alone_speaks_of_no_gains(
    states: tuple[StageState, ...],
) -> None:
    assert stage_gains(states) == []
    assert "gained" not in curriculum_report(states)


class TestWhatAgentStagesGained:
    @pytest.fixture
    def agents(self, project: Project) -> tuple[StageState, ...]:
        """Two stages of another line of descent: two more tasks fixed, calls of two languages."""
        first = project.train("sft", perplexity=20.0)
        second = project.train("dpo", Certificate("sft", first, {}))
        for stage, candidate, fixed in (("sft", first, 1), ("dpo", second, 3)):
            rows = [
                Attempt(
                    str(n), "p", "flip", 0, Verdict(n < fixed), None, 2, 2, 1 + n % 2, 9, 9, "", {},
                    language="go" if n % 2 else "python",
                )
                for n in range(4)
            ]  # fmt: skip
            text = "".join(json.dumps(row.to_json()) + "\n" for row in rows)
            project.stored(f"{stage}.evaluate", {"candidate": candidate}, attempts__jsonl=text)
        return tuple(
            StageState(
                stage, parent, candidate,
                {
                    "candidate": candidate.digest, "passed": True, "checks": [],
                    "metrics": {"fixed_rate_low": 0.05, "fixed_rate_high": 0.95, **metrics},
                },
                None,
            )
            for stage, parent, candidate, metrics in (
                ("sft", "foundation", first, {"perplexity": 20.0, "fixed_rate": 0.25}),
                ("dpo", "sft", second, {"perplexity": 22.0, "fixed_rate": 0.75}),
            )
        )  # fmt: skip

    def test_a_stage_is_compared_with_its_parent_task_by_task(
        self, agents: tuple[StageState, ...]
    ) -> None:
        (gain,) = stage_gains(agents)
        assert (gain["stage"], gain["parent"], gain["tasks"]) == ("dpo", "sft", 4)
        assert (gain["only_second"], gain["only_first"], gain["gain"]) == (2, 0, 0.5)
        assert gain["low"] < 0.5 < gain["high"]
        assert "| dpo | sft | 4 |" in curriculum_report(agents)

    def test_so_is_a_stage_whose_parent_trains_nothing_and_passes_a_model_on(
        self, agents: tuple[StageState, ...]
    ) -> None:
        (gain,) = stage_gains((agents[0], replace(agents[1], parent="tui")))
        assert (gain["stage"], gain["parent"], gain["gain"]) == ("dpo", "tui", 0.5)

    def test_the_matrix_holds_every_language(self, agents: tuple[StageState, ...]) -> None:
        rows = retention_rows(agents)
        assert [row["valid_call_rate_python"] for row in rows] == [0.5, 0.5]
        assert [row["valid_call_rate_go"] for row in rows] == [1.0, 1.0]
        assert list(retention_table(agents)["perplexity"]) == [20.0, 22.0]
        assert json.loads(json.dumps(retention_numbers(agents)))["gains"][0]["stage"] == "dpo"

    def test_every_metric_of_the_matrix_is_plotted(self, agents: tuple[StageState, ...]) -> None:
        names = {trace.name.partition(",")[0] for trace in retention_curves(agents).data}
        assert {"perplexity", "fixed_rate", "valid_call_rate_go"} <= names


def test_forgetting_is_not_measured_across_foundations(states: tuple[StageState, ...]) -> None:
    other = StageState("foundation", None, None, None, Certificate(
        "foundation", states[0].candidate, {"metrics": {"perplexity": 20.0}}  # type: ignore[arg-type]
    ))  # fmt: skip
    rows = {row["stage"]: row for row in curriculum_rows((*states, other))}
    assert rows["foundation"]["perplexity_kept"] == 1.0


def test_gates_are_green_red_and_grey(project: Project, states: tuple[StageState, ...]) -> None:
    write_styles(project.path, states)
    text = (project.path / ".viz/styles.json").read_text()
    for colour in ("#2e9e5b", "#d64545", "#9aa0a6"):
        assert colour in text
