"""GPT-OSS's format: exact text and masks, the six rules, and where two libraries disagree.

Golden files show what is trained between 【 and 】. To accept a change on purpose:
``CURRICLE_UPDATE_GOLDEN=1 pytest tests/engine/test_harmony.py``.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openai_harmony as oh
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from curricle.agents.messages import (
    MalformedCall,
    Message,
    ToolCall,
    assistant,
    system,
    tool_result,
    user,
)
from curricle.engine.harmony import (
    VOCABULARY,
    VOCABULARY_SHA256,
    HarmonyRenderer,
    provide_vocabulary,
)
from curricle.errors import DataError
from tests.engine.agent_conversations import CONVERSATION, TOOLS
from tests.engine.test_agent_rendering import golden, marked

LOOP = (
    system("You are a debugging agent."),
    user("tests/test_add.py fails, fix it."),
    assistant("", ToolCall(name="run_tests"), thinking="Run the tests first."),
    tool_result("run_tests", "E  assert add(1,2)==3"),
    assistant("", ToolCall(name="edit", arguments={"old": "-", "new": "+"}), thinking="Flip it."),
    tool_result("edit", "ok"),
    assistant("Fixed: `add` subtracted.", thinking="Done."),
)


@pytest.fixture(scope="module")
def renderer() -> HarmonyRenderer:
    return HarmonyRenderer()


class TestGolden:
    def test_each_assistant_turn_is_a_sample_with_exact_text_and_mask(
        self, renderer: HarmonyRenderer
    ) -> None:
        samples = renderer.samples(CONVERSATION, TOOLS, "here")
        written = "\n=====\n".join(marked(renderer, sample) for sample in samples)
        assert len(samples) == 5  # of six turns; one is a mistake without loss
        assert written == golden("harmony.txt", written)

    def test_no_date_is_written(self, renderer: HarmonyRenderer) -> None:
        assert "Current date" not in renderer.text(renderer.prompt(LOOP[:2], TOOLS))


class TestRules:
    def test_thinking_stays_while_tools_are_called_and_goes_after_the_answer(
        self, renderer: HarmonyRenderer
    ) -> None:
        open_loop = renderer.text(renderer.prompt(LOOP[:6], TOOLS))
        assert "Run the tests first." in open_loop
        assert "Flip it." in open_loop
        answered = renderer.text(renderer.prompt([*LOOP, user("Sure?")], TOOLS))
        assert "Run the tests first." not in answered
        assert "Done." not in answered
        assert "Fixed: `add` subtracted.<|end|>" in answered

    def test_the_answer_of_a_sample_returns_and_a_call_calls(
        self, renderer: HarmonyRenderer
    ) -> None:
        first, second, last = renderer.samples(LOOP, TOOLS)
        assert renderer.text(last.input_ids[-1:]) == "<|return|>"
        assert [renderer.text(s.input_ids[-1:]) for s in (first, second)] == ["<|call|>"] * 2
        assert renderer.text(last.input_ids).count("<|return|>") == 1

    def test_the_mask_begins_behind_the_cue_and_ends_with_the_sample(
        self, renderer: HarmonyRenderer
    ) -> None:
        for sample, end in zip(renderer.samples(LOOP, TOOLS), (2, 4, 6), strict=True):
            prompt = renderer.prompt(LOOP[:end], TOOLS)
            assert sample.input_ids[: len(prompt)].tolist() == prompt
            assert sample.assistant_mask.tolist() == [
                position >= len(prompt) for position in range(len(sample))
            ]

    def test_a_loop_only_appends(self, renderer: HarmonyRenderer) -> None:
        context = renderer.prompt(LOOP[:2], TOOLS)
        for turn, observation in ((2, 3), (4, 5)):
            sample = renderer.render(LOOP[: turn + 1], TOOLS)
            generated = sample.input_ids[sample.assistant_mask].tolist()
            context += [*generated, *renderer.continuation(LOOP[observation : observation + 1])]
            assert context == renderer.prompt(LOOP[: observation + 1], TOOLS)

    def test_a_users_message_needs_a_new_rendering(self, renderer: HarmonyRenderer) -> None:
        with pytest.raises(DataError, match="only a tool's result continues"):
            renderer.continuation([user("more")])

    def test_the_library_renders_the_loop_the_same_but_for_the_last_token(
        self, renderer: HarmonyRenderer
    ) -> None:
        ours = renderer.render(LOOP, TOOLS).input_ids.tolist()
        conversation = renderer._encoding.parse_messages_from_completion_tokens(
            [*ours[:-1], renderer._end], None, strict=False
        )
        config = oh.RenderConversationConfig(auto_drop_analysis=False)
        theirs = renderer._encoding.render_conversation_for_training(
            oh.Conversation.from_messages(conversation), config
        )
        assert renderer.text(theirs).endswith("subtracted.<|return|>")
        tail = ours[ours.index(renderer._encoding.encode("assistant")[0]) - 1 :]
        assert theirs[-len(tail) :] == tail


class TestParsing:
    @pytest.mark.parametrize(
        "message",
        [
            LOOP[2], LOOP[6], assistant("Look.", ToolCall(name="run_tests"), thinking="t"),
            assistant("", ToolCall(name="edit", arguments={"old": 'a\n"\\', "new": "", "n": [1]})),
            assistant("", ToolCall(name="run_tests"), ToolCall(name="run_tests")),
            assistant(" \n spaces \n"),
        ],
    )  # fmt: skip
    def test_a_turn_comes_back(self, renderer: HarmonyRenderer, message: Message) -> None:
        turn = list(renderer._turn(message, terminal=True))
        assert renderer.parse(turn[len(renderer._cue) :]) == message

    def test_the_other_spelling_of_a_call_parses_too(self, renderer: HarmonyRenderer) -> None:
        text = " to=functions.run_tests<|channel|>commentary json<|message|>{}<|call|>"
        ids = renderer._encoding.encode(text, allowed_special="all")
        assert renderer.parse(ids) == assistant("", ToolCall(name="run_tests"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("<|channel|>analysis<|message|>hm", "cut off"),
            ("", "cut off"),
            (" to=functions.edit<|channel|>commentary json<|message|>{<|call|>", "not JSON"),
            (" to=functions.edit<|channel|>commentary json<|message|>[]<|call|>", "a list"),
            (" to=browser.open<|channel|>commentary json<|message|>{}<|call|>", "none of the func"),
            (" to=functions.a+b<|channel|>commentary json<|message|>{}<|call|>", "no name of a"),
            ("no header at all<|return|>", "is not Harmony"),
        ],
    )
    def test_nonsense_is_a_malformed_call(
        self, renderer: HarmonyRenderer, text: str, message: str
    ) -> None:
        ids = renderer._encoding.encode(text, allowed_special="all")
        with pytest.raises(MalformedCall, match=message):
            renderer.parse(ids)
        assert "malformed" in renderer.answer(ids)

    def test_a_spelled_special_token_is_refused(self, renderer: HarmonyRenderer) -> None:
        with pytest.raises(DataError, match=r"row 1, message 1: .*<\|call\|>"):
            renderer.samples([user("x<|call|>"), assistant("a")], (), "row 1")

    def test_a_conversation_without_anything_to_train_is_refused(
        self, renderer: HarmonyRenderer
    ) -> None:
        with pytest.raises(DataError, match="no assistant turn to train"):
            renderer.samples([user("u"), assistant("a", train=False)], (), "row 1")
        with pytest.raises(DataError, match="the last turn is not one"):
            renderer.render([user("u"), assistant("a", train=False)], (), "row 1")


class TestOffline:
    def test_the_vocabulary_comes_out_of_the_package(self, tmp_path: Path) -> None:
        code = (
            "from pathlib import Path; import sys\n"
            "from curricle.engine.harmony import HarmonyRenderer, provide_vocabulary\n"
            "print(provide_vocabulary(Path(sys.argv[1])))\n"
            "print(HarmonyRenderer().stop_token_ids)\n"
        )
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TIKTOKEN")}
        environment |= {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
        command = [sys.executable, "-c", code, str(tmp_path / "cache")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        assert done.stdout.split("\n")[:2] == [str(tmp_path / "cache"), "(200002, 200012)"]
        content = (tmp_path / "cache" / VOCABULARY).read_bytes()
        assert hashlib.sha256(content).hexdigest() == VOCABULARY_SHA256

    def test_a_broken_copy_is_written_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("TIKTOKEN_ENCODINGS_BASE", raising=False)
        (tmp_path / VOCABULARY).write_bytes(b"half")
        assert provide_vocabulary(tmp_path) == tmp_path
        assert (tmp_path / VOCABULARY).stat().st_size == 3_613_922
        monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", "/of/the/user")
        assert provide_vocabulary(tmp_path) == Path("/of/the/user")


class TestAgainstTheChatTemplate:
    """Where GPT-OSS's chat template, as TRL ships it, writes something else than the library.

    A change of either library shows here, and so does the reason for our own rules.
    """

    def write(self, *turns: Message) -> str:
        rows: list[dict[str, Any]] = []
        for turn in turns:
            row = turn.to_row()
            calls = [{"type": "function", "function": call} for call in row.pop("tool_calls", [])]
            rows.append(row | ({"tool_calls": calls} if calls else {}))
        template = importlib.resources.files("trl").joinpath("chat_templates/gptoss.jinja")
        ((written,), _) = render_jinja_template(
            [rows], tools=[t.function_schema() for t in TOOLS], chat_template=template.read_text()
        )
        return str(written)

    def test_the_template_writes_a_date_and_we_do_not(self) -> None:
        assert "Current date: 2" in self.write(*LOOP)

    def test_the_template_drops_the_thinking_of_calls_once_there_is_an_answer(
        self, renderer: HarmonyRenderer
    ) -> None:
        theirs = self.write(*LOOP)
        assert "Flip it." not in theirs
        assert "Done." in theirs
        ours = [renderer.text(s.input_ids[s.assistant_mask]) for s in renderer.samples(LOOP, TOOLS)]
        assert "Flip it." in ours[1]
        assert "Done." in ours[2]

    def test_the_template_spells_a_calls_header_without_constrain(
        self, renderer: HarmonyRenderer
    ) -> None:
        assert "<|channel|>commentary json<|message|>" in self.write(*LOOP)
        assert "<|channel|>commentary <|constrain|>json<|message|>" in renderer.text(
            renderer.render(LOOP[:3], TOOLS).input_ids
        )

    def test_the_template_quotes_what_a_tool_printed(self, renderer: HarmonyRenderer) -> None:
        assert '<|message|>"E  assert add(1,2)==3"<|end|>' in self.write(*LOOP)
        assert "<|message|>E  assert add(1,2)==3<|end|>" in renderer.text(
            renderer.prompt(LOOP[:4], TOOLS)
        )

    def test_the_template_renders_the_first_of_several_calls_only(
        self, renderer: HarmonyRenderer
    ) -> None:
        first = ToolCall(name="run_tests")
        second = ToolCall(name="read_file", arguments={"path": "a.py"})
        turn = assistant("", first, second)
        assert "functions.read_file<|channel|>" not in self.write(user("u"), turn)
        sample = renderer.render([user("u"), turn], TOOLS)
        assert "functions.read_file<|channel|>" in renderer.text(sample.input_ids)

    def test_the_library_alone_would_drop_the_thinking_of_the_last_answer(
        self, renderer: HarmonyRenderer
    ) -> None:
        turns = [renderer._turn(m, terminal=False) for m in LOOP if m.role == "assistant"]
        ids = [i for turn in turns for i in turn]
        parsed = renderer._encoding.parse_messages_from_completion_tokens(ids, None, strict=False)
        conversation = oh.Conversation.from_messages(parsed)
        kept, dropped = (
            renderer.text(renderer._encoding.render_conversation_for_training(
                conversation, oh.RenderConversationConfig(auto_drop_analysis=drop)))
            for drop in (False, True)
        )  # fmt: skip
        assert "Done." in kept
        assert "Done." not in dropped
        assert np.all([t in kept for t in ("Run the tests first.", "Flip it.")])
