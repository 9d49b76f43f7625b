"""Asks mutmut for its mutations of some files, and reports them as byte spans.

mutmut makes a whole copy of a module for each mutant, or one with all of them behind trampolines.
Neither is a change that a person makes; so its nodes are taken, and put where they stood.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys

WORK = "/work/"


def main():
    """Read the request, report one mutation a line, then the version."""
    request = json.loads(sys.stdin.read())
    sys.path[:] = [*request["site"], *(p for p in sys.path if p)]
    os.chdir("/tmp")  # mutmut wants a configuration where it is started
    with open("pyproject.toml", "w") as stream:
        stream.write('[tool.mutmut]\nsource_paths = ["."]\n')
    from mutmut.mutation import file_mutation

    named = Named(file_mutation.mutation_operators, request["left_out"])
    file_mutation.mutation_operators = named.operators
    with open("/report/mutmut.jsonl", "w") as report:
        for file in request["files"]:
            with open(WORK + file, encoding="utf-8") as stream:
                source = stream.read()
            for record in _mutations(file_mutation, file, source, named):
                report.write(json.dumps(record) + "\n")
        version = importlib.metadata.version("mutmut")
        report.write(json.dumps({"event": "end", "version": version}) + "\n")


class Named:
    """mutmut's operators, made to remember which of them made a node."""

    def __init__(self, operators, left_out):
        self._names = {}
        self._nodes = []  # kept alive, or another node could get the same id
        self.operators = [
            (kind, self._remembering(operator))
            for kind, operator in operators
            if operator.__name__.removeprefix("operator_") not in left_out
        ]

    def _remembering(self, operator):
        def remembered(node):
            for mutated in operator(node):
                self._names[id(mutated)] = operator.__name__.removeprefix("operator_")
                self._nodes.append(mutated)
                yield mutated

        return remembered

    def of(self, node):
        """The operator that made a node."""
        return self._names[id(node)]


def _mutations(file_mutation, file, source, named):
    from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper

    module, found, _, _ = file_mutation.create_mutations(file, source)
    wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
    spans = wrapper.resolve(ByteSpanPositionProvider)
    encoded = source.encode()
    for mutation in found:
        span = spans[mutation.original_node]
        start, end = span.start, span.start + span.length
        there = encoded[start:end].decode()
        original = module.code_for_node(mutation.original_node)
        replacement = _in_place(there, original, module.code_for_node(mutation.mutated_node))
        if replacement is None:
            continue
        # What stays behind the last argument when it goes.
        replacement = re.sub(r",\s*\)$", ")", replacement)
        yield {
            "event": "mutation", "file": file, "operator": named.of(mutation.mutated_node),
            "start": start, "end": end, "original": there, "replacement": replacement,
        }  # fmt: skip


def _in_place(there, original, mutated):
    """A node's new text as it has to stand where the old one stood; `None` when nobody knows.

    Printed by itself, a node owns the space around it and starts at the margin.
    """
    for text in (original, original.strip()):
        first, *rest = text.split("\n")
        _, *lines = there.split("\n")
        indentation = ""
        if rest and lines:
            indentation = lines[0][: len(lines[0]) - len(rest[0])]
        if "\n".join([first, *(indentation + line if line else line for line in rest)]) == there:
            changed = mutated if text == original else mutated.strip()
            return changed.replace("\n", "\n" + indentation)
    return None


if __name__ == "__main__":
    main()
