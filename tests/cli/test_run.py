"""``kedro run``: what the user can mend ends as one message, a defect keeps its traceback."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from kedro.io import DatasetError

from curricle.cli.errors import clear_ending, with_environment
from curricle.cli.run import signals_interrupt
from curricle.errors import DataError, Interrupted, StoreError
from tests.fabricated import Project


def raised_from(outer: Exception, inner: Exception) -> Exception:
    try:
        raise outer from inner
    except Exception as error:
        return error


def test_an_error_of_ours_counts_below_what_kedro_wraps_around_it() -> None:
    ending = clear_ending(raised_from(DatasetError("wrapped"), StoreError("it is gone")))
    assert ending is not None
    assert (ending.message, ending.status) == ("it is gone", 1)


def test_a_defect_keeps_its_traceback() -> None:
    assert clear_ending(raised_from(RuntimeError("a defect"), ValueError("another"))) is None


def test_a_hidden_context_is_not_searched() -> None:
    try:
        try:
            raise DataError("handled")
        except DataError:
            raise RuntimeError("a defect") from None
    except RuntimeError as error:
        assert clear_ending(error) is None


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_gives_the_status_that_a_shell_gives_it(name: str, status: int) -> None:
    ending = clear_ending(Interrupted("sft.train: stopped after step 3 of 9", name))
    assert ending is not None
    assert ending.status == status


def test_the_keyboard_ends_with_what_to_do_next() -> None:
    ending = clear_ending(KeyboardInterrupt())
    assert ending is not None
    assert "the same command continues" in ending.message
    assert ending.status == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_outside_a_job_interrupts_as_inside_one(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=number.name), signals_interrupt():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_commands_in_a_message_keep_the_environment() -> None:
    said = with_environment("Judge again: kedro run --tags gate", "test")
    assert said == "Judge again: kedro run --env test --tags gate"


def test_a_closed_gate_ends_in_one_line_a_check_and_status_one(project: Project) -> None:
    project.train("pretrain", perplexity=900.0)
    result = project.kedro("run", "--pipelines", "pretrain", "--tags", "gate")
    assert result.exit_code == 1
    assert "pretrain: gate closed: perplexity 900 > 200" in result.stderr
    assert "kedro run --pipelines pretrain --tags gate" in result.stderr
    assert "Traceback" not in result.output


def test_an_open_gate_certifies_and_the_summary_says_so(project: Project) -> None:
    project.train("pretrain", perplexity=90.0)
    result = project.kedro("run", "--pipelines", "pretrain", "--tags", "gate")
    assert result.exit_code == 0
    assert "certified" in result.stdout
    assert (project.data / "06_models/pretrain_checkpoint.json").exists()


def test_the_older_option_for_one_pipeline_works_without_a_warning(project: Project) -> None:
    project.train("pretrain", perplexity=90.0)
    result = project.kedro("run", "--pipeline", "pretrain", "--tags", "gate")
    assert result.exit_code == 0
    assert "deprecated" not in result.output


def test_a_failed_run_leaves_the_report_and_the_colours(project: Project) -> None:
    project.train("pretrain", perplexity=900.0)
    project.kedro("run", "--pipelines", "pretrain", "--tags", "gate")
    reporting = project.data / "08_reporting"
    assert "pretrain: closed" in (reporting / "curriculum_report.md").read_text()
    assert (reporting / "curriculum.csv").exists()
    assert (reporting / "curriculum_curves.json").exists()
    assert '"#d64545"' in (project.path / ".viz/styles.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pipelines", "pretran"], "pretrain"),
        (["--pipelines", "pretrain", "--env", "tset"], "There is no environment 'tset'"),
        (["--pipelines", "pretrain", "--nodes", "no_such_node"], "no_such_node"),
        (["--pipelines", "sft"], "the pipeline pretrain makes it"),
        (["--pipelines", "sft", "--params", "sft.trian.x=1"], "did you mean sft.train?"),
    ],
)
def test_a_mistake_ends_with_its_fix(project: Project, arguments: list[str], said: str) -> None:
    result = project.kedro("run", *arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_missing_private_folder_is_named_with_the_command_that_makes_it(
    project: Project,
) -> None:
    (project.path / "conf/local").rmdir()
    result = project.kedro("run", "--pipelines", "pretrain")
    assert result.exit_code == 1
    assert "mkdir -p conf/local" in result.stderr


def test_a_run_refused_by_preflight_leaves_nothing_behind(project: Project) -> None:
    result = project.kedro("run", "--params", "pretrian.train.learning_rate=0")
    assert result.exit_code == 1
    assert not Path(project.data).exists()


def test_a_parameter_for_nothing_is_said_before_the_run(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    project.kedro("run", "--pipelines", "sft", "--params", "dpo.train.beta=0.3,sft.train.seed=1")
    assert "dpo.train.beta changes nothing in this run" in caplog.text
    assert "sft.train.seed" not in caplog.text
