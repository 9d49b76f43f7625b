"""Every parameter is read by somebody and has the type that they expect, or the run is refused.

Kedro validates what typed nodes ask for, and silently keeps the rest; a mistyped key is then a
wish that nobody hears. Here each key must be covered by a ``params:`` input of some pipeline,
and all that is wrong is said at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kedro.pipeline import Pipeline
from kedro.validation.type_extractor import TypeExtractor
from pydantic import BaseModel, ValidationError

from curricle.config.loader import leaves
from curricle.errors import ConfigError

_PREFIX = "params:"
_SHARED = ("language.stages.", "gates.language.", "agent.")  # spread or interpolated by the loader


def check_parameters(parameters: Mapping[str, Any], pipelines: Mapping[str, Pipeline]) -> None:
    """Compare the parameters, as they were read, with what the registered pipelines ask for.

    Args:
        parameters: nested, before any model is made of them.
        pipelines: all that are registered.

    Raises:
        ConfigError: one line per key that nobody reads or that has an impossible value.
    """
    built = dict(pipelines)
    wanted = {name for pipeline in built.values() for name in _asked_for(pipeline)}
    types = TypeExtractor(built).extract_types_from_pipelines()
    problems = [*_unread(parameters, wanted), *_invalid(parameters, types)]
    if problems:
        raise ConfigError(
            "\n".join(f"parameter {problem}" for problem in problems)
            + "\nMend conf/*/parameters, conf/*/gates.yml or --params; nothing has run."
        )


def without_effect(
    given: Mapping[str, Any], pipeline: Pipeline, pipelines: Mapping[str, Pipeline]
) -> Iterator[str]:
    """Yield a message for each of ``--params`` that the run at hand does not read.

    One list of parameters may serve several runs, so it is no error; but ``--pipelines lora`` with
    a new rate for DPO adapts the DPO of before, and must say so. Blocks that others take over
    (``agent``, ``language.stages``, ``gates.language``) are not judged.

    Args:
        given: the parameters of this run alone, nested.
        pipeline: what is about to run.
        pipelines: all that are registered, to name one that reads it.
    """
    read = _asked_for(pipeline)
    for path in leaves(given):
        if path.startswith(_SHARED) or _covers(read, path):
            continue
        others = [name for name, other in pipelines.items() if _covers(_asked_for(other), path)]
        smallest = min(others, key=lambda name: len(pipelines[name].nodes), default="")
        yield f"{path} changes nothing in this run, none of its nodes reads it" + (
            f"; the pipeline {smallest} does." if smallest else "."
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a suggestion in a sentence of its own, or the known names when none is near."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(names)}." if names else ""


def _asked_for(pipeline: Pipeline) -> set[str]:
    """Return the dotted paths of the parameters that ``pipeline`` reads."""
    return {name.removeprefix(_PREFIX) for name in pipeline.inputs() if name.startswith(_PREFIX)}


def _covers(read: Iterable[str], path: str) -> bool:
    """Return whether a block that is read holds ``path``, or lies in it."""
    return any(f"{path}.".startswith(f"{name}.") or name.startswith(f"{path}.") for name in read)


def _unread(node: Mapping[str, Any], wanted: set[str], prefix: str = "") -> Iterator[str]:
    """Yield a message for each key below ``prefix`` that no pipeline reads."""
    for key, value in node.items():
        path = f"{prefix}{key}"
        if path in wanted:
            continue
        if any(name.startswith(f"{path}.") for name in wanted):
            if isinstance(value, Mapping):
                yield from _unread(value, wanted, f"{path}.")
            else:
                below = {n.removeprefix(f"{path}.").split(".")[0] for n in wanted
                         if n.startswith(f"{path}.")}  # fmt: skip
                yield f"{path} is {value!r}, not a block; known in it: {', '.join(sorted(below))}."
            continue
        siblings = {
            prefix + name.removeprefix(prefix).split(".")[0]
            for name in wanted
            if name.startswith(prefix)
        }
        yield f"{path} is read by nothing; {did_you_mean(path, siblings)}"


def _invalid(parameters: Mapping[str, Any], types: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for each value that its model refuses."""
    for path, model in sorted(types.items()):
        value = _lookup(parameters, path)
        if value is None or not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        try:
            model.model_validate(value)
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                location = list(problem["loc"])
                yield _say(path, model, location, problem)
        except ConfigError as error:
            yield f"{path}: {error}"


def _say(path: str, model: type[BaseModel], location: list[Any], problem: Any) -> str:
    where = ".".join([path, *(str(part) for part in location)])
    if problem["type"] == "extra_forbidden":
        return f"{where} is unknown; {did_you_mean(str(location[-1]), _fields(model, location))}"
    if problem["type"] == "missing":
        return f"{where} is missing."
    return f"{where}={problem['input']!r}: {problem['msg']}."


def _fields(model: type[BaseModel], location: list[Any]) -> list[str]:
    """Return the fields beside the last part of ``location``, followed through nested models."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part)) or model.model_fields.get("root")
        if field is None:
            continue  # an index or a key: the model was already found
        nested = _model_in(field.annotation)
        if nested is None:
            return []
        model = nested
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation holds, through tuples, dicts and optionals."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None


def _lookup(parameters: Mapping[str, Any], path: str) -> Any:
    value: Any = parameters
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value
