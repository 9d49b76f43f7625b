"""Evaluation over real projects: what needs no model, a server's attempts, and the report."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from curricle_python.samples import SAMPLES

from curricle.agents.scoring import Baselines
from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.datasets import CertificateDataset
from curricle.checkpoints.store import Built, Store, Stored
from curricle.config.base import RunSettings
from curricle.config.evaluation import EvaluationParameters
from curricle.config.execution import ExecutorParameters, SandboxParameters
from curricle.config.tasks import ProjectSource, ProjectsParameters, TaskBudget
from curricle.errors import ConfigError
from curricle.languages.commands import Level
from curricle.languages.tasks import BugTask
from curricle.pipelines.evaluation.baselines import read_baselines
from curricle.pipelines.evaluation.nodes import (
    attempts_node,
    baselines_node,
    report_node,
    subject_node,
)
from curricle.pipelines.evaluation.subject import Subject, find_subject
from curricle.pipelines.sft.rows import write_rows
from curricle.pipelines.tasks.files import read_projects, read_tasks
from curricle.pipelines.tasks.nodes import mutants_node, projects_node, split_node, verify_node
from curricle.stages.build import read_report

BUDGET = TaskBudget(mutants=6, heldout_tasks=4, batch=4, project_wall_s=30)
EXECUTOR = ExecutorParameters(workers=1)
SANDBOX = SandboxParameters()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    return RunSettings(store=tmp_path_factory.mktemp("evaluation") / "store")


@pytest.fixture(scope="module")
def projects(run: RunSettings) -> Stored:
    """One sample to train on, one held out."""
    wanted = {
        sample["name"]: ProjectSource.model_validate(
            {key: value for key, value in sample.items() if key != "name"}
        )
        for sample in SAMPLES
        if sample["name"] in ("textkit", "intervals")
    }
    return projects_node("python")(ProjectsParameters(listed=wanted), BUDGET, run)


@pytest.fixture(scope="module")
def tasks(projects: Stored, run: RunSettings) -> Stored:
    mutants = mutants_node("python")(projects, BUDGET, EXECUTOR, SANDBOX, run)
    verified = verify_node("python")(projects, mutants, BUDGET, EXECUTOR, SANDBOX, run)
    return split_node("python")(verified, BUDGET, run)


def parameters(**changes: Any) -> EvaluationParameters:
    attempts = {
        "max_tasks": 3, "levels": ["lint"], "session": {"max_turns": 4},
        "rollout": {"max_turns": 4}, **changes.pop("attempts", {}),
    }  # fmt: skip
    baselines = {"rule_tasks": 2, "tries": 4}
    return EvaluationParameters.model_validate(
        {"attempts": attempts, "baselines": baselines, **changes}
    )


@pytest.fixture(scope="module")
def measured(projects: Stored, tasks: Stored, run: RunSettings) -> Stored:
    return measure(projects, tasks, run)


def measure(projects: Stored, tasks: Stored, run: RunSettings) -> Stored:
    return baselines_node("python")(projects, tasks, parameters(), EXECUTOR, SANDBOX, run)


class TestBaselines:
    def verdicts(self, measured: Stored, name: str) -> list[Any]:
        return list(read_baselines(measured).all()[name].values())

    def test_the_original_fixes_everything_and_nothing_fixes_nothing(
        self, measured: Stored
    ) -> None:
        assert [verdict.fixed for verdict in self.verdicts(measured, "oracle")] == [True] * 3
        assert [verdict.fixed for verdict in self.verdicts(measured, "no_op")] == [False] * 3

    def test_the_other_levels_are_measured_of_what_changes_nothing_too(
        self, measured: Stored
    ) -> None:
        assert all(v.clean == {Level.LINT: True} for v in self.verdicts(measured, "no_op"))
        assert all(v.clean[Level.LINT] is True for v in self.verdicts(measured, "oracle"))

    def test_the_best_rule_is_chosen_on_training_tasks(self, measured: Stored) -> None:
        report = read_report(measured)
        assert (report["rule_tasks"], report["tasks"], report["masked"]) == (2, 3, 0)
        assert report["rule_fixed"] == max(report["scores"].values())
        assert read_baselines(measured).rule_name == report["rule"]

    def test_rules_that_run_the_tests_do_no_worse_than_one_that_does_not(
        self, measured: Stored
    ) -> None:
        known: Baselines = read_baselines(measured)
        for task, verdict in known.rule.items():
            assert known.searched[task].fixed or not verdict.fixed

    def test_a_task_that_the_original_does_not_fix_is_named(
        self, projects: Stored, tasks: Stored, run: RunSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = {split: read_tasks(tasks, split) for split in ("tui", "train", "heldout")}
        impossible = replace(rows["heldout"][0], heldout=("test_none.py::test_none",))
        rows["heldout"] = (impossible, rows["heldout"][1])

        def build(result: Path, resume: Path) -> Built:
            for split, chosen in rows.items():
                write_rows(result / f"{split}.jsonl", (task.to_json() for task in chosen))
            return Built()

        altered = Store(run.store).obtain("tasks_python.split", {"altered": True}, build)
        report = read_report(measure(projects, altered, run))
        assert report["original_refused"] == [impossible.id]
        assert f"no model can fix them: {impossible.id[:12]}" in caplog.text

    def test_a_run_that_was_killed_finds_its_grades_again(
        self, measured: Stored, projects: Stored, tasks: Stored, run: RunSettings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        Store(run.store).remove(measured)
        # Without any sandbox nothing can be executed again.
        monkeypatch.setattr("curricle.agents.baselines.OPEN", "nothing:at_all")
        assert measure(projects, tasks, run).digest == measured.digest


class Repairs(BaseHTTPRequestHandler):
    """A model that was told how to repair each function, and breaks its first call to one."""

    edits: ClassVar[dict[str, dict[str, str]]]

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = request["messages"]
        asked = next(message["content"] for message in messages if message["role"] == "user")
        edit = next((e for name, e in self.edits.items() if f", {name} " in asked), None)
        said: dict[str, Any] = {"content": "Done."}
        if edit is not None and messages[-1]["role"] == "user":
            function = {"name": "edit", "arguments": json.dumps(edit)}
            said = {"content": None, "tool_calls": [{"id": "1", "function": function}]}
        usage = {"prompt_tokens": 12, "completion_tokens": 3}
        body = json.dumps({"choices": [{"message": said}], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def server(projects: Stored, tasks: Stored) -> Iterator[EvaluationParameters]:
    """Asks a server that can repair all tasks but the last; one function holds one bug here."""
    listed = read_projects(projects)
    heldout = read_tasks(tasks, "heldout")[:3]

    class Known(Repairs):
        edits: ClassVar = {task.mutant.function: repair(task, listed) for task in heldout[:2]}

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Known)
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    endpoint = {"url": f"http://127.0.0.1:{serving.server_address[1]}/v1", "model": "repairs"}
    yield parameters(
        attempts={"generation": {"backend": "endpoint", "endpoint": endpoint}},
        samples=2, pass_at=(1, 2), targets={"pytest_pass_rate": 0.5, "ruff_clean_rate": 0.9},
    )  # fmt: skip
    serving.shutdown()
    thread.join()
    serving.server_close()


def repair(task: BugTask, listed: Any) -> dict[str, str]:
    """The edit that undoes a bug, of the whole file, which is unique."""
    project = listed[task.mutant.project].project
    broken = str(task.broken(project)[task.mutant.file])
    return {"path": task.mutant.file, "old": broken, "new": project.read(task.mutant.file)}


@pytest.fixture(scope="module")
def report(
    server: EvaluationParameters, projects: Stored, tasks: Stored, measured: Stored,
    run: RunSettings,
) -> tuple[Any, str, dict[str, Any]]:  # fmt: skip
    subject = subject_node("python")(server, run)
    attempts, sampled = (
        attempts_node("python", sampled=several)(projects, tasks, subject, server, run)
        for several in (False, True)
    )
    return report_node("python")(subject, attempts, sampled, measured, server, run)  # type: ignore[no-any-return]


class TestAnEndpoint:
    def test_its_repairs_are_graded(self, report: tuple[Any, str, dict[str, Any]]) -> None:
        numbers = report[2]
        assert (numbers["tasks"], numbers["masked"]) == (3, 0)
        assert numbers["fixed_rate"]["count"] == 2
        assert numbers["failures"] == {"no_edit": 1}
        assert numbers["pass_at"] == {"1": pytest.approx(2 / 3, abs=1e-3), "2": 0.6667}
        assert numbers["valid_call_rate"]["value"] == 1.0

    def test_every_rate_has_its_target_and_stands_beside_what_needs_no_model(
        self, report: tuple[Any, str, dict[str, Any]]
    ) -> None:
        table, page, numbers = report
        rates = table.set_index("metric")
        assert rates.loc["pytest_pass_rate", "reached"] == True  # noqa: E712 (numpy's own)
        assert rates.loc["pytest_pass_rate", "no_op"] == 0.0
        assert rates.loc["pytest_pass_rate", "oracle"] == 1.0
        assert rates.loc["ruff_clean_rate", "value"] == 1.0
        assert numbers["metrics"]["mypy_clean_rate"]["rate"] is None, "it was not asked for"
        assert f"The best rule is `{numbers['rules']['rule']}`" in page
        assert json.loads(json.dumps(numbers)) == numbers

    def test_its_transcripts_are_kept(self, report: tuple[Any, str, dict[str, Any]]) -> None:
        rows = Path(report[2]["transcripts"]["attempts"]).read_text().splitlines()
        assert len(rows) == 3
        assert json.loads(rows[0])["messages"][1]["role"] == "user"

    def test_a_checkpoint_that_it_would_not_read_is_refused(
        self, server: EvaluationParameters, run: RunSettings
    ) -> None:
        both = server.model_copy(update={"checkpoint": "somewhere"})
        with pytest.raises(ConfigError, match="would not be read"):
            find_subject("python", both, run)


class TestWhatIsEvaluated:
    def certificate(self, run: RunSettings) -> Path:
        """A stage and its parent, whose attempts are in the store."""

        def stored(step: str, inputs: dict[str, str], **files: str) -> Stored:
            def build(result: Path, resume: Path) -> Built:
                for name, text in files.items():
                    (result / name).with_suffix(".jsonl").write_text(text)
                return Built()

            return Store(run.store).obtain(step, {"inputs": inputs}, build)

        foundation = stored("foundation.model", {})
        stored("foundation.evaluate", {"candidate": foundation.digest}, attempts="")
        first = stored("lang_python_ipo.train", {})
        stored("lang_python_ipo.evaluate", {"candidate": first.digest}, attempts="")
        last = stored("lang_python_grpo.train", {"start": first.digest})
        parent = Certificate(
            "lang_python_ipo", first, {}, Certificate("foundation", foundation, {})
        )
        path = run.store.parent / "06_models" / "lang_python_grpo_checkpoint.json"
        CertificateDataset(filepath=str(path)).save(
            Certificate("lang_python_grpo", last, {}, parent)
        )
        return path

    def test_by_default_it_is_what_the_languages_last_gate_certified(self, tmp_path: Path) -> None:
        run = RunSettings(store=tmp_path / "store")
        with pytest.raises(ConfigError, match=r"--pipelines lang_python\. Or"):
            find_subject("python", parameters(), run)
        self.certificate(run)
        found = find_subject("python", parameters(), run)
        assert found.stage == "lang_python_grpo"
        assert (found.parent, found.parent_attempts is not None) == ("lang_python_ipo", True)
        assert (found.start, found.start_attempts is not None) == ("foundation", True)
        assert Subject.from_json(found.to_json(run.store), run.store) == found

    def test_a_certificate_and_a_folder_of_the_store_are_found_by_their_paths(
        self, tmp_path: Path
    ) -> None:
        run = RunSettings(store=tmp_path / "store")
        path = self.certificate(run)
        by_file = find_subject("python", parameters(checkpoint=str(path)), run)
        assert by_file.model is not None
        folder = parameters(checkpoint=str(by_file.model.path))
        assert find_subject("python", folder, run).model == by_file.model

    def test_a_path_that_is_not_there_is_named(self, run: RunSettings) -> None:
        with pytest.raises(ConfigError, match=r"evaluation\.checkpoint=nowhere: no such file"):
            find_subject("python", parameters(checkpoint="nowhere"), run)
