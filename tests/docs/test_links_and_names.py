"""What the documentation names exists: links, commands, parameters, thresholds."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click import Command
from kedro.framework.cli.project import run as kedro_run
from pydantic import BaseModel, RootModel

from curricle.pipeline_registry import register_pipelines
from tests.config.environments import parameters, typed_blocks
from tests.docs.markdown import PAGES, PROJECT, blocks, prose

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMENT = re.compile(r"<!--.*?-->", re.S)
INLINE = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(r"[a-z_0-9]+(\.[a-z_0-9]+)*\.(?!yml|json|jsonl|npy)[a-z_0-9]+")

ALL = register_pipelines()["__default__"]
NAMES = {
    "--pipelines": set(register_pipelines()),
    "--tags": {tag for node in ALL.nodes for tag in node.tags},
    "--from-nodes": {node.name for node in ALL.nodes},
    "--env": {path.name for path in (PROJECT / "conf").iterdir() if path.is_dir()},
}
TOP = {"corpus", "pretrain", "sft", "dpo", "lora", "run", "gates", "evaluation"}


def page_id(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def commands(page: Path) -> Iterator[str]:
    """Every `kedro` and `make` command of a page, from blocks and from inline code."""
    lines = [line for b in blocks(page) if b.language == "bash" for line in b.text.splitlines()]
    for line in [*lines, *INLINE.findall(prose(page))]:
        if line.startswith(("kedro ", "make ")):
            yield line.partition("#")[0].strip()


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def is_parameter(name: str) -> bool:
    """Whether conf/base holds a dotted name, or a typed block has a field of that name."""
    parts = name.split(".")
    found: Any = parameters("base")
    for part in parts:
        found = found.get(part) if isinstance(found, dict) else None
    if found is not None:
        return True
    return any(
        name.startswith(f"{block}.") and has_field(model, name.removeprefix(f"{block}."))
        for block, model in typed_blocks().items()
    )


def has_field(model: type[BaseModel], name: str) -> bool:
    if issubclass(model, RootModel):  # a gate policy: a metric, and a key of its check
        return True
    first, _, rest = name.partition(".")
    field = model.model_fields.get(first)
    if field is None or not rest:
        return field is not None
    inner = field.annotation
    return isinstance(inner, type) and issubclass(inner, BaseModel) and has_field(inner, rest)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_relative_link_resolves(page: Path) -> None:
    for target in LINK.findall(COMMENT.sub("", prose(page))):
        if target.startswith(("http://", "https://")):
            continue
        file, _, fragment = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.M)
            assert fragment in map(anchor, headings), target


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_exists(page: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text(), re.M))
    assert isinstance(kedro_run, Command)
    options = {name for parameter in kedro_run.params for name in parameter.opts}
    for command in commands(page):
        program, subcommand, *arguments = shlex.split(command)
        if program == "make":
            assert subcommand in targets, command
            continue
        assert subcommand in {"run", "viz", "registry", "curricle"}, command
        if subcommand != "run":
            continue
        for option, value in zip(arguments[::2], arguments[1::2], strict=True):
            assert option in options, command
            if option == "--params":
                given = [item.partition("=")[0] for item in value.split(",")]
                assert all(map(is_parameter, given)), command
            else:
                assert set(value.split(",")) <= NAMES[option], command


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_dotted_name_is_a_parameter_a_node_or_a_step(page: Path) -> None:
    sources = "".join(path.read_text() for path in (PROJECT / "src").rglob("*.py"))
    named = [name for name in INLINE.findall(prose(page)) if DOTTED.fullmatch(name)]
    for name in (name for name in named if name.partition(".")[0] in TOP):
        known = name in NAMES["--from-nodes"] or f'"{name}"' in sources or is_parameter(name)
        assert known, f"{page_id(page)} names {name}"


def test_a_name_that_does_not_exist_is_noticed() -> None:
    assert is_parameter("sft.prepare.dataset") and is_parameter("gates.sft.refusal_rate.min")
    assert not is_parameter("sft.prepare.datasets") and not is_parameter("sft.training")


def test_the_thresholds_of_the_page_are_those_of_base() -> None:
    row = re.compile(r"^\| `(\w+)` \| `(\w+)` \| (min|max) ([\d.]+)(?: x (\w+))? \|", re.M)
    page = (PROJECT / "docs/GATES.md").read_text()
    shown = {
        (stage, metric): {bound: float(value)} | ({"relative_to": to} if to else {})
        for stage, metric, bound, value, to in row.findall(page)
    }
    policies = parameters("base")["gates"]
    assert shown == {
        (stage, metric): dict(check)
        for stage, policy in policies.items()
        for metric, check in policy.items()
    }


def test_the_readme_stays_short() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) < 150
