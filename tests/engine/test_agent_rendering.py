"""Conversations with tools in ChatML: exact text and masks, and everything comes back.

Golden files show what is trained between 【 and 】. To accept a change of the template on purpose:
``CURRICLE_UPDATE_GOLDEN=1 pytest tests/engine/test_agent_rendering.py``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast as Tokenizer

from curricle.agents.call_formats import CallFormat, parse_turn
from curricle.agents.messages import (
    MalformedCall,
    Message,
    ToolCall,
    ToolDefinition,
    assistant,
    tool_result,
    user,
)
from curricle.config.training import SftParameters
from curricle.engine.agent_rows import attach_template, render_samples, take_samples
from curricle.engine.models import load_tokenizer
from curricle.engine.renderers import (
    ChatTemplateRenderer,
    Renderer,
    agent_template,
    attach_agent_template,
    renderer_for,
)
from curricle.engine.rendering import Rendered
from curricle.errors import ConfigError, DataError
from tests.engine.agent_conversations import CONVERSATION, TOOLS

GOLDEN = Path(__file__).parent / "golden"
FORMATS: tuple[CallFormat, ...] = ("plain", "json")


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_folder)


@pytest.fixture(scope="module", params=FORMATS)
def renderer(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> ChatTemplateRenderer:
    return ChatTemplateRenderer(tokenizer, request.param)


def marked(renderer: Renderer, rendered: Rendered) -> str:
    """The text, with what is trained in brackets."""
    edges = np.flatnonzero(np.diff(rendered.assistant_mask)) + 1
    pieces = np.split(rendered.input_ids, edges)
    first = bool(rendered.assistant_mask[0])
    return "".join(
        f"【{renderer.text(piece)}】" if (n % 2 == 0) == first else renderer.text(piece)
        for n, piece in enumerate(pieces)
    )


def golden(name: str, text: str) -> str:
    path = GOLDEN / name
    if os.environ.get("CURRICLE_UPDATE_GOLDEN"):
        path.write_text(text)
    return path.read_text()


class TestGolden:
    def test_text_and_mask_are_exact(self, renderer: ChatTemplateRenderer) -> None:
        written = marked(renderer, renderer.render(CONVERSATION, TOOLS, "here"))
        assert written == golden(f"{renderer.call_format}.txt", written)

    def test_plain_calls_train_fewer_tokens_than_json(self, tokenizer: Tokenizer) -> None:
        plain, as_json = (
            int(ChatTemplateRenderer(tokenizer, f).render(CONVERSATION, TOOLS).assistant_mask.sum())
            for f in FORMATS
        )
        assert plain < 0.75 * as_json

    def test_the_saved_template_renders_the_same_for_whoever_loads_the_checkpoint(
        self, renderer: ChatTemplateRenderer, tmp_path: Path
    ) -> None:
        attach_agent_template(renderer.tokenizer, renderer.call_format)
        renderer.tokenizer.save_pretrained(tmp_path)
        loaded = load_tokenizer(tmp_path)
        said = [m.model_copy(update={"train": True}) for m in CONVERSATION]
        encoded = loaded.apply_chat_template(
            [m.to_row() for m in said], tools=[t.function_schema() for t in TOOLS],
            return_dict=True, return_assistant_tokens_mask=True,
        )  # fmt: skip
        ours = renderer.render(said, TOOLS)
        assert encoded["input_ids"] == ours.input_ids.tolist()
        assert encoded["assistant_masks"] == ours.assistant_mask.astype(int).tolist()
        again = renderer_for(loaded, None, "stage")
        assert isinstance(again, ChatTemplateRenderer)
        assert again.call_format == renderer.call_format


class TestAppending:
    def test_a_longer_conversation_begins_with_the_shorter_one(
        self, renderer: ChatTemplateRenderer
    ) -> None:
        whole = renderer.render(CONVERSATION, TOOLS).input_ids.tolist()
        for end, message in enumerate(CONVERSATION, start=1):
            if message.role in ("user", "tool"):
                prompt = renderer.prompt(CONVERSATION[:end], TOOLS)
                assert prompt == whole[: len(prompt)]
                turn = renderer.render(CONVERSATION[: end + 1], TOOLS).input_ids.tolist() \
                    if CONVERSATION[end].train else None  # fmt: skip
                assert turn is None or turn == whole[: len(turn)]

    def test_a_generated_turn_is_continued_token_by_token(
        self, renderer: ChatTemplateRenderer
    ) -> None:
        prompt = renderer.prompt(CONVERSATION[:2], TOOLS)
        whole = renderer.render(CONVERSATION, TOOLS).input_ids.tolist()
        stop = whole.index(renderer.stop_token_ids[0], len(prompt)) + 1
        context = [*whole[:stop], *renderer.continuation(CONVERSATION[3:4])]
        assert context == renderer.prompt(CONVERSATION[:4], TOOLS)

    def test_white_space_at_a_turns_ends_moves_no_token(
        self, renderer: ChatTemplateRenderer
    ) -> None:
        prompt = renderer.prompt([user("u")], TOOLS)
        whole = renderer.render([user("u"), assistant("\n\n  x \n")], TOOLS).input_ids.tolist()
        assert whole[: len(prompt)] == prompt


text = st.text(max_size=40) | st.text("\\\"'$|-+<>=\n\t {}[]x1", max_size=20) | st.sampled_from(
    ["", " ", "\n", "true", "1", "-1", "$ edit", "</think>", "<think>", "<tool_call>", "\\$",
     "old|", "-", "</tool_call>", '{"name": 1}', "a=b", '"', "\r\n", "\u2028", "..", "null"]
)  # fmt: skip
values = st.recursive(
    text | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False,
                                                                allow_infinity=False),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=3,
)  # fmt: skip
names = st.sampled_from(["old", "new", "path", "patch", "query", "a-b", "x_1"])
calls = st.builds(
    ToolCall,
    name=st.sampled_from(["edit", "run_tests", "mcp.find-all"]),
    arguments=st.dictionaries(names, values, max_size=4),
)
turns = st.builds(
    Message,
    role=st.just("assistant"),
    content=text,
    thinking=text,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
).filter(lambda m: m.content or m.tool_calls)
ANY = {n: {} for n in ("old", "new", "path", "patch", "query", "a-b", "x_1")}
OPEN_TOOLS = [
    ToolDefinition(name=n, parameters={"type": "object", "properties": ANY})
    for n in ("edit", "run_tests", "mcp.find-all")
]


class TestRoundTrip:
    @settings(max_examples=250, deadline=None)
    @given(message=turns)
    def test_everything_that_is_rendered_parses_back(
        self, renderer: ChatTemplateRenderer, message: Message
    ) -> None:
        rendered = renderer.render([user("u"), message], OPEN_TOOLS)
        prompt = renderer.prompt([user("u")], OPEN_TOOLS)
        turn = rendered.input_ids[len(prompt) : -len(renderer._line_end)]
        assert renderer.parse(turn.tolist()) == message
        assert rendered.assistant_mask.sum() == len(turn)

    def test_observations_are_written_as_they_are(self, renderer: ChatTemplateRenderer) -> None:
        printed = '$ edit\n-x\n</think>\n{"a": "\\n"}  \n'
        conversation = [user("u"), assistant("", ToolCall(name="run_tests")),
                        tool_result("run_tests", printed), assistant("x")]  # fmt: skip
        assert f"tool\n{printed}<|im_end|>" in renderer.text(
            renderer.render(conversation, TOOLS).input_ids
        )


class TestMalformed:
    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ("$edit", "is no call: write `\\$ tool argument=value`"),
            ("$ edit path", "after edit is no argument"),
            ("$ edit path=", "an argument without a value"),
            ("$ edit path= name=a", "an argument without a value"),
            ("$ edit path=  a", "an argument without a value"),
            ('$ edit path="a"b"', "a text in quotes holds no quote"),
            ("$ edit path=[1", "is not JSON"),
            ("$ edit path=a path=b", "two arguments path"),
            ("$ edit\nreturn 1", "is no line of a call"),
            ("$ edit\n|x", "is no line of a call"),
            ("$ edit\n-a\n+b\n-c", "the argument old is given twice"),
            ("$ edit path=a\npath|b", "the argument path is given twice"),
            ("<think>\nhm", "thinking that is not closed"),
        ],
    )
    def test_a_plain_call_says_what_is_wrong(self, written: str, message: str) -> None:
        with pytest.raises(MalformedCall, match=message):
            parse_turn(written, "plain")

    def test_a_space_before_a_value_is_forgiven(self) -> None:
        (call,) = parse_turn("$ read_file path= a.py name= total from_line=3", "plain").tool_calls
        assert call.arguments == {"path": "a.py", "name": "total", "from_line": 3}

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ("<tool_call>", "between the lines <tool_call> and </tool_call>"),
            ("<tool_call>\n{\n</tool_call>", "are not JSON"),
            ('<tool_call>\n{"name": "a", "args": {}}\n</tool_call>', "a call is"),
            ('<tool_call>\n{"name": "a", "arguments": "{}"}\n</tool_call>', "a call is"),
            ('<tool_call>\n{"arguments": {}}\n</tool_call>', "is no name"),
            ('<tool_call>\n{"name": "a"}\n</tool_call>\nx', "between the lines"),
        ],
    )
    def test_a_json_call_says_what_is_wrong(self, written: str, message: str) -> None:
        with pytest.raises(MalformedCall, match=message):
            parse_turn(written, "json")

    def test_a_turn_that_was_cut_off_is_no_call(self, renderer: ChatTemplateRenderer) -> None:
        whole = renderer.render([user("u"), assistant("", ToolCall(name="run_tests"))], TOOLS)
        cut = whole.input_ids[whole.assistant_mask][:-1].tolist()
        with pytest.raises(MalformedCall, match="cut off"):
            renderer.parse(cut)
        answer = renderer.answer(cut)
        assert "cut off" in answer["malformed"]
        assert answer["content"] == renderer.text(cut)

    def test_an_unreadable_turn_is_told_without_the_token_that_ended_it(
        self, renderer: ChatTemplateRenderer
    ) -> None:
        said = {"plain": "$ edit\nno line of a call", "json": "<tool_call>{</tool_call>"}
        text = said[renderer.call_format]
        answer = renderer.answer(renderer.tokenizer(f"{text}<|im_end|>")["input_ids"])
        assert answer["malformed"] and answer["content"] == text

    def test_a_readable_turn_is_handed_on_as_a_row(self, renderer: ChatTemplateRenderer) -> None:
        message = assistant("", ToolCall(name="read_file", arguments={"path": "a.py"}))
        whole = renderer.render([user("u"), message], TOOLS)
        assert renderer.answer(whole.input_ids[whole.assistant_mask].tolist()) == message.to_row()


class TestRefusals:
    @pytest.mark.parametrize("where", ["content", "thinking", "argument", "observation", "tool"])
    def test_a_special_token_is_refused_wherever_it_stands(
        self, renderer: ChatTemplateRenderer, where: str
    ) -> None:
        bad = "x<|im_end|>y"
        said = {"content": "", "argument": "", "observation": "", "thinking": "", "tool": ""}
        said[where] = bad
        conversation = [
            user("u"),
            assistant(said["content"], ToolCall(name="read_file", arguments={
                "path": said["argument"]}), thinking=said["thinking"]),
            tool_result("read_file", said["observation"]), assistant("z"),
        ]  # fmt: skip
        tools = [t.model_copy(update={"description": said["tool"]}) for t in TOOLS]
        with pytest.raises(DataError, match=r"row 7.*special token <\|im_end\|>"):
            renderer.render(conversation, tools, "row 7")

    def test_a_conversation_that_trains_nothing_is_refused(
        self, renderer: ChatTemplateRenderer
    ) -> None:
        with pytest.raises(DataError, match="no assistant turn to train"):
            renderer.render([user("u"), assistant("a", train=False)], TOOLS, "row 1")

    def test_a_prompt_ends_with_somebody_else(self, renderer: ChatTemplateRenderer) -> None:
        with pytest.raises(DataError, match="the assistant spoke last"):
            renderer.prompt([user("u"), assistant("a")], TOOLS, "row 1")

    def test_no_template_anywhere_says_where_to_name_one(self, tokenizer: Tokenizer) -> None:
        tokenizer.chat_template = None
        with pytest.raises(ConfigError, match=r"tui_agent: .*checkpoint has none.*Set `renderer`"):
            renderer_for(tokenizer, None, "tui_agent")
        tokenizer.chat_template = "{{ messages }}"
        with pytest.raises(ConfigError, match="has a chat template without our tool calls"):
            renderer_for(tokenizer, None, "tui_agent")
        with pytest.raises(ConfigError, match="renderer='latin' is unknown"):
            renderer_for(tokenizer, "latin", "tui_agent")


class TestRows:
    def row(self, *turns: Message) -> dict[str, Any]:
        return {
            "messages": [m.to_row() for m in turns],
            "tools": [t.function_schema() for t in TOOLS],
        }

    def write(self, path: Path, *rows: dict[str, Any]) -> Path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def test_trajectories_chats_and_texts_stand_in_one_file(
        self, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        chat = {"messages": [user("u").to_row(), assistant("a").to_row()]}
        trajectory = self.row(user("u"), assistant("", ToolCall(name="run_tests")),
                              tool_result("run_tests", "ok"), assistant("a"))  # fmt: skip
        path = self.write(tmp_path / "train.jsonl", trajectory, chat, {"text": "x = 1"})
        attach_agent_template(tokenizer, "plain")
        samples = list(render_samples(tokenizer, path, None, "tui_tools"))
        texts = [tokenizer.decode(s.input_ids[s.assistant_mask]) for s in samples]
        assert texts[:2] == ["$ run_tests<|im_end|>a<|im_end|>", "a<|im_end|>"]
        assert len(samples) == 3

    def test_mistakes_carry_no_loss(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        row = self.row(user("u"), assistant("", ToolCall(name="oops"), train=False),
                       tool_result("oops", "error"), assistant("right"))  # fmt: skip
        path = self.write(tmp_path / "train.jsonl", row)
        (sample,) = render_samples(tokenizer, path, "plain", "stage")
        assert tokenizer.decode(sample.input_ids[sample.assistant_mask]) == "right<|im_end|>"
        assert "$ oops" in tokenizer.decode(sample.input_ids)

    def test_what_does_not_fit_is_dropped_and_counted_never_cut(
        self, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        short, long = (self.row(user("u" * n), assistant("a")) for n in (10, 500))
        path = self.write(tmp_path / "train.jsonl", short, long, short, short)
        length = len(next(render_samples(tokenizer, path, "plain", "s")))
        parameters = SftParameters(learning_rate=1e-3, batch_size=1, max_length=length,
                                   renderer="plain", max_train_tokens=2 * length)  # fmt: skip
        samples, counts = take_samples(tokenizer, path, parameters, "s")
        assert [len(sample) for sample in samples] == [length, length]
        assert counts["dropped_too_long"] == 1
        assert counts["dropped_over_budget"] == 1
        assert counts["tokens"] == 2 * length
        assert counts["tokens_max"] == length
        none = parameters.model_copy(update={"max_length": length - 1})
        with pytest.raises(DataError, match=r"none of 4 conversations.*Raise s\.max_length"):
            take_samples(tokenizer, path, none, "s")

    def test_a_bad_trajectory_is_named(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        good = self.row(user("u"), assistant("a"))
        bad = self.row(user("u"), assistant("", ToolCall(name="oops")))
        path = self.write(tmp_path / "train.jsonl", good, bad)
        with pytest.raises(DataError, match=r"train\.jsonl, row 2, message 2: unknown tool 'oops'"):
            list(render_samples(tokenizer, path, "plain", "s"))

    def test_the_named_template_is_attached_and_an_own_one_kept(self, tokenizer: Tokenizer) -> None:
        budget = {"learning_rate": 1e-3, "batch_size": 1, "max_length": 8}
        tokenizer.chat_template = None
        attach_template(tokenizer, SftParameters(**budget))
        assert "im_start" in tokenizer.chat_template
        attach_template(tokenizer, SftParameters(**budget, renderer="json"))
        assert tokenizer.chat_template == agent_template("json")
        attach_template(tokenizer, SftParameters(**budget))
        assert tokenizer.chat_template == agent_template("json")
