"""The state of a stage is what its candidate, report and certificate say together."""

from __future__ import annotations

from curricle.reporting.gates import gate_states
from curricle.reporting.state import StageState, read_states
from tests.fabricated import Project, specs


def pretrain(project: Project) -> StageState:
    (state,) = read_states(project.catalog(), specs("pretrain"))
    return state


def test_nothing_there_is_not_run(project: Project) -> None:
    assert pretrain(project).status == "not run"


def test_a_certificate_of_the_candidate_is_certified(project: Project) -> None:
    project.certify("pretrain", perplexity=90.0)
    assert pretrain(project).status == "certified"


def test_a_candidate_that_failed_is_closed_even_beside_an_older_certificate(
    project: Project,
) -> None:
    project.certify("pretrain", perplexity=90.0)
    worse = project.train("pretrain", salt="worse", perplexity=900.0)
    project.judge("pretrain", worse, {"perplexity": 900.0})
    assert pretrain(project).status == "closed"


def test_a_candidate_that_was_not_judged_leaves_the_older_certificate(project: Project) -> None:
    project.certify("pretrain", perplexity=90.0)
    project.train("pretrain", salt="newer", perplexity=80.0)
    assert pretrain(project).status == "certified (older candidate)"


def test_a_report_on_another_candidate_gives_no_metrics(project: Project) -> None:
    older = project.train("pretrain", perplexity=90.0)
    project.judge("pretrain", older, {"perplexity": 90.0})
    project.train("pretrain", salt="newer", perplexity=80.0)
    assert pretrain(project).metrics == {}


def test_a_report_is_possible_when_what_was_stored_is_gone(project: Project) -> None:
    certificate = project.certify("pretrain", perplexity=90.0)
    (certificate.candidate.path / "manifest.json").unlink()
    assert pretrain(project).status == "not run"


def test_a_gate_is_open_only_under_the_policy_in_force(project: Project) -> None:
    project.certify("pretrain", perplexity=90.0)
    states = read_states(project.catalog(), specs("pretrain"))
    policy = states[0].report["policy"] if states[0].report else {}
    (gate,) = gate_states(states, {"pretrain": policy})
    assert gate.is_open
    (gate,) = gate_states(states, {"pretrain": {}})
    assert not gate.is_open
    assert gate.fix.endswith("kedro run --pipelines pretrain --tags gate")
