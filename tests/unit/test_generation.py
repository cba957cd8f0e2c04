"""text-generation equals plain transformers code, whichever way it runs, and loses nothing when its engine dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.channel import Done, Started
from streamer.inference.generation.continuous import Room
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from streamer.inference.tasks.text_generation import TextGeneration
from tests.generation_kit import TRACE, Loop, Output, Params, Plain, generation
from tests.language_models import DECODERS, tiny_decoder

TEXTS = ["The film was good", "é 映画 🎬 naïve", "a", " ", "Two\nlines, and then some more of them, to be longer."]
STREAMED = ("gpt2", "llama", "qwen2")


@pytest.fixture(scope="module", params=DECODERS)
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny causal model of each architecture."""
    return tiny_decoder(tmp_path_factory.mktemp(request.param), request.param, chat=True)


@pytest.fixture(scope="module")
def model(decoder: Path) -> Iterator[TextGeneration]:
    """The same, loaded."""
    with generation(decoder) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def plain(decoder: Path) -> Plain:
    """The same by transformers alone."""
    return Plain(decoder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that streams, without a chat template."""
    return tiny_decoder(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture
def loop(llama: Path) -> Iterator[Loop]:
    """A fresh engine over it."""
    with generation(llama) as loaded:
        yield Loop(loaded)


def test_continuous_batching_is_taken_where_it_is_exact(model: TextGeneration, decoder: Path) -> None:
    """By attention models that pass the check; recurrent ones go on without it."""
    (probe,) = model.encode(["a"], None, None)
    assert not isinstance(probe, DataFailure)
    assert model.streams(probe) is decoder.name.startswith(STREAMED)


def test_what_is_read_otherwise_from_some_length_on_streams_below_it(tmp_path: Path) -> None:
    """Positions that are scaled by the longest row: the check is of what streams."""
    with generation(tiny_decoder(tmp_path, "phi3")) as phi3:
        short, long = phi3.encode(["a", "a" * 40], None, [{"max_new_tokens": 5}] * 2)
        assert not isinstance(short, DataFailure) and not isinstance(long, DataFailure)
        assert phi3.streams(short) and not phi3.streams(long)


def test_greedy_tokens_are_those_of_plain_generate(model: TextGeneration, plain: Plain) -> None:
    """Of mixed texts and lengths that run together."""
    lengths = [5, 20, 1, 12, 9]
    outputs = Loop(model).run(TEXTS, [{"max_new_tokens": length} for length in lengths])
    expected = [plain.generate(plain.ids(text), max_new_tokens=most) for text, most in zip(TEXTS, lengths, strict=True)]
    assert outputs == expected


def test_a_seed_draws_the_sample_that_plain_generate_draws(model: TextGeneration, plain: Plain) -> None:
    """Whoever shares the batch, and again the next time."""
    asked: list[Params] = [
        {"max_new_tokens": 8, "temperature": 0.7, "seed": 3},
        {"max_new_tokens": 8, "temperature": 1.3, "top_p": 0.8, "seed": 4},
        {"max_new_tokens": 8, "top_k": 5, "seed": 5},
    ]
    texts = ["Once upon", "Once upon", "A time on"]
    outputs = Loop(model).run([*texts, *TEXTS], [*asked, *[{"max_new_tokens": 2}] * len(TEXTS)])[:3]
    options: list[dict[str, Any]] = [
        {"temperature": 0.7, "seed": 3},
        {"temperature": 1.3, "top_p": 0.8, "seed": 4},
        {"top_k": 5, "seed": 5},
    ]
    expected = [
        plain.generate(plain.ids(text), max_new_tokens=8, **own) for text, own in zip(texts, options, strict=True)
    ]
    assert outputs == expected
    assert Loop(model).run(texts[:1], asked[:1]) == expected[:1]


def test_a_sample_without_a_seed_is_drawn_anew(model: TextGeneration) -> None:
    """Ten draws of the same event at a high temperature differ."""
    outputs = Loop(model).run(["Once"] * 10, [{"temperature": 5.0, "top_k": 200, "max_new_tokens": 6}] * 10)
    assert len({str(output) for output in outputs}) > 1


def test_a_conversation_goes_through_the_chat_template(model: TextGeneration, plain: Plain) -> None:
    """Messages that end with the user's turn are all of it; else the text is that turn."""
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Wie geht's? 🙂"}]
    asked: list[Params] = [{"messages": talk, "max_new_tokens": 6}, {"messages": talk[:1], "max_new_tokens": 6}]
    outputs = Loop(model).run(["not read", "Wie geht's? 🙂"], asked)
    expected = plain.generate(plain.ids(talk), max_new_tokens=6)
    assert outputs == [expected, expected]


def test_a_conversation_that_the_template_refuses_is_the_events_fault(model: TextGeneration) -> None:
    """Told without quoting it."""
    (failure,) = model.encode(["a"], None, [{"messages": [{"role": "wizard", "content": "secret"}]}])
    assert isinstance(failure, DataFailure)
    assert failure.code is Code.VALIDATE_PARAMS
    assert "wizard" not in failure.message and "secret" not in failure.message


def test_a_stop_string_ends_the_text_before_it(model: TextGeneration, plain: Plain) -> None:
    """And the tokens up to the one that completed it are counted."""
    whole = plain.generate(plain.ids(TEXTS[0]), max_new_tokens=40)
    stop = next(c for c in whole["text"][4:] if c.isascii())
    (output,) = Loop(model).run(TEXTS[:1], [{"max_new_tokens": 40, "stop": ["never there", stop]}])
    assert isinstance(output, dict)
    assert output["text"] == whole["text"][: whole["text"].index(stop)]
    assert output["finish_reason"] == "stop"
    assert output["completion_tokens"] < whole["completion_tokens"]


def test_the_end_of_an_over_long_prompt_is_read(model: TextGeneration, plain: Plain) -> None:
    """As much as leaves room for the new tokens; the result says that it was cut."""
    text = "The longest story ever told. " * 20
    (encoded,) = model.encode([text], None, [{"max_new_tokens": 28}])
    assert not isinstance(encoded, DataFailure)
    assert encoded.truncated
    (output,) = Loop(model).run([text], [{"max_new_tokens": 28}])
    assert output == plain.generate(plain.ids(text, 100), max_new_tokens=28)


def test_a_short_text_does_not_wait_for_a_long_one(loop: Loop) -> None:
    """Whether they stream, or run one after the other: what began later may end first."""
    loop.run(["long", "short"], [{"max_new_tokens": 100}, {"max_new_tokens": 2}])
    assert loop.answered == [1, 0]
    loop.said.clear()
    drawn = {"temperature": 1.0, "seed": 1}
    asked: list[Params] = [{"max_new_tokens": 100, **drawn}, {"max_new_tokens": 2, **drawn}, {"max_new_tokens": 40}]
    loop.run(["long", "short", "streams"], asked)
    assert loop.answered == [1, 2, 0]


def test_what_streams_is_traced_one_by_one_and_the_rest_by_forward_batch(loop: Loop) -> None:
    """Below the micro-batch's span, with the tokens that were read and generated."""
    asked: list[Params] = [{"max_new_tokens": 20}, {"max_new_tokens": 2}, {"temperature": 1.0, "seed": 1}]
    outputs: list[Any] = loop.run(["long", "short", "drawn"], asked)
    traced = [one for message in loop.said if isinstance(message, Done) for one in message.forwarded]
    assert {one.parent for one in traced} == {TRACE}
    assert sum(one.records for one in traced) == len({one.span_id for one in traced}) == 3
    assert sum(one.tokens for one in traced) == sum(output["prompt_tokens"] for output in outputs)
    assert sum(one.output_tokens for one in traced) == sum(output["completion_tokens"] for output in outputs)
    assert all(0 < one.start_ns < one.end_ns for one in traced)


def test_all_that_is_under_way_stands_in_each_announcement(loop: Loop) -> None:
    """The driver finds the suspects of a crash in the last one, and takes outcomes for the end of all before."""
    loop.run(["long", "short", "drawn"], [{"max_new_tokens": 90}, {"max_new_tokens": 2}, {"top_k": 3, "seed": 1}])
    under_way: set[int] = set()
    open_numbers = {0, 1, 2}
    for message in loop.said:
        if isinstance(message, Started):
            under_way = set(message.numbers)
        else:
            assert set(message.numbers) <= under_way
            open_numbers -= set(message.numbers)
            under_way = set()
        assert under_way <= open_numbers
    last_done = max(index for index, message in enumerate(loop.said) if isinstance(message, Done))
    assert not open_numbers and last_done == len(loop.said) - 1


def _inside(model: TextGeneration) -> Any:
    """What runs its continuous batching."""
    return model._streams


def _break(model: TextGeneration, times: int) -> list[int]:
    """Let the next passes of continuous batching raise; returns what counts them down."""
    left = [times]

    def raise_some(*_: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("a kernel gave up")

    _inside(model)._twin.register_forward_pre_hook(raise_some)
    return left


@pytest.mark.parametrize("deaths", [1, 2, 5])
def test_a_dead_manager_loses_nothing(loop: Loop, llama: Path, deaths: int) -> None:
    """It is replaced and the survivors are added again; what saw it die twice is generated plainly."""
    left = _break(loop.model, deaths)
    outputs = loop.run(TEXTS, [{"max_new_tokens": 10}] * len(TEXTS))
    plain = Plain(llama)
    assert outputs == [plain.generate(plain.ids(text), max_new_tokens=10) for text in TEXTS]
    assert left[0] == max(0, deaths - 2)


def test_a_thread_that_just_ends_loses_nothing(loop: Loop, llama: Path) -> None:
    """No error is reported then, and no output comes."""
    manager = _inside(loop.model)._greedy._manager
    manager._generation_loop_body = lambda *_, **__: False
    manager._fail_all_remaining_requests = lambda *_: None
    manager._has_new_requests.set()
    outputs = loop.run(TEXTS[:2], [{"max_new_tokens": 4}] * 2)
    plain = Plain(llama)
    assert outputs == [plain.generate(plain.ids(text), max_new_tokens=4) for text in TEXTS[:2]]


def test_memory_that_runs_out_makes_smaller_steps(loop: Loop) -> None:
    """For the life of the worker; nothing is blamed."""
    greedy = _inside(loop.model)._greedy
    before = greedy.room.step_tokens

    def fail_once(*_: Any) -> None:
        hook.remove()
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    hook = _inside(loop.model)._twin.register_forward_pre_hook(fail_once)
    assert all(isinstance(output, dict) for output in loop.run(TEXTS, [{"max_new_tokens": 3}] * len(TEXTS)))
    assert greedy.room.step_tokens == before // 2


def test_suspects_run_alone_and_plainly(loop: Loop, llama: Path) -> None:
    """Each announced by itself."""
    plain = Plain(llama)
    outputs = loop.run(TEXTS[:2], [{"max_new_tokens": 3}] * 2, alone=True)
    assert outputs == [plain.generate(plain.ids(text), max_new_tokens=3) for text in TEXTS[:2]]
    assert [message.numbers for message in loop.said if isinstance(message, Started)] == [[0], [1]]


def test_a_prompt_larger_than_the_cache_is_generated_plainly(tmp_path: Path) -> None:
    """Rather than ending the manager for all."""
    with generation(tiny_decoder(tmp_path, "llama", max_tokens=4096)) as model:
        short, long = model.encode(["a", "b" * 1200], None, [{"max_new_tokens": 2}] * 2)
        _inside(model).room = Room(1024, 256, 64)
        assert not isinstance(short, DataFailure) and not isinstance(long, DataFailure)
        assert model.streams(short)
        assert not model.streams(long)


def _failure(output: Output) -> DataFailure:
    assert isinstance(output, DataFailure)
    return output


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"colour": 1}, "colour"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 128}, "128 tokens in all"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop": ""}, "stop"),
        ({"seed": -1}, "seed"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "secret"}]}, "no chat template"),
    ],
)
def test_params_that_the_task_does_not_take_are_refused(loop: Loop, params: dict[str, Any], words: str) -> None:
    """As the event's failure, by name."""
    failure = _failure(loop.run(["a"], [params])[0])
    assert failure.code is Code.VALIDATE_PARAMS
    assert words in failure.message and "secret" not in failure.message


def test_over_long_prompts_and_pairs_are_refused_on_demand(llama: Path) -> None:
    """`on_overflow = "reject"`; a pair has no meaning here."""
    model = load(WorkerSpec("test", "text-generation", str(llama), dtype="float32", on_overflow="reject"))
    assert isinstance(model, TextGeneration)
    try:
        long, paired = model.encode(["x" * 200, "a"], [None, "b"], None)
        assert _failure(long).code is Code.INFER_TOO_LONG  # type: ignore[arg-type]
        assert _failure(paired).code is Code.VALIDATE_TEXT_PAIR  # type: ignore[arg-type]
    finally:
        model.close()


def test_beams_run_plainly_and_do_not_sample(llama: Path) -> None:
    """As generate's own beam search, one text at a time."""
    plain = Plain(llama)
    with generation(llama, num_beams=3) as model:
        outputs = Loop(model).run([*TEXTS, "a"], [*[{"max_new_tokens": 6}] * len(TEXTS), {"temperature": 1.0}])
    expected = [plain.generate(plain.ids(text), max_new_tokens=6, num_beams=3) for text in TEXTS]
    assert outputs[:-1] == expected
    assert "num_beams" in _failure(outputs[-1]).message


@pytest.mark.parametrize(
    ("options", "words"), [({"chat": True}, "chat template"), ({"max_new_tokens": 128}, "128"), ({"beam": 1}, "beam")]
)
def test_options_that_do_not_fit_are_refused_at_load(llama: Path, options: dict[str, Any], words: str) -> None:
    """Before any event is read."""
    with pytest.raises(ModelError, match=words), generation(llama, **options):
        pass
