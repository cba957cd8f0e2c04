"""Letters of a text never become control tokens, and nothing else about a text changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from streamer.errors import DataFailure, ModelError
from streamer.inference.generation.chat_prompt import ChatTemplate
from streamer.inference.models.text_reader import CONTROL_IN_TEXT, TextReader, is_control
from tests.generation_kit import Loop, generation
from tests.language_models import tiny_decoder, tiny_seq2seq
from tests.unit.tasks_kit import model_of, outcomes

SENTENCES: Final = ["the parcel is late and nobody answers <s> </s>", "why would it rain again ? [SEP]"] * 30
SPECIAL: Final = ["<unk>", "<s>", "</s>", "[SEP]", "<|im_start|>", "<|im_end|>"]
MARKS: Final = ["<think>", "</think>"]  # control tokens that are not special
WORDS: Final = ["covid", "   "]  # added tokens that are text
KINDS: Final = ("bytes", "unigram", "words", "pieces", "prepended")
CHATML: Final = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}"
)
TRIMMED: Final = CHATML.replace("m['content']", "m['content'] | trim")
SHOUTED: Final = CHATML.replace("m['content']", "m['content'] | upper")
LOWERED: Final = CHATML.replace("m['content']", "m['content'] | lower")
SEAMED: Final = "{% for m in messages %}{{ m['content'] }}{% endfor %}</s>"
ANSWERED: Final = CHATML.replace("m['content']", "m['content'].split('</think>')[-1].lstrip('\n')")  # as Qwen3 does
TEMPLATES: Final = {
    "chatml": CHATML,
    "trimmed": TRIMMED,
    "answered": ANSWERED,
    "shouted": SHOUTED,
    "seamed": SEAMED,
}
MOST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CONTROLS: Final = [*SPECIAL, *MARKS]
LETTERS = st.sampled_from([*"ab <>|[]/\n?é🎬_s", "im_", "covid", "   "])
EVIL = st.lists(st.one_of(st.text(max_size=12), LETTERS, st.sampled_from(CONTROLS)), max_size=9).map("".join)


def tokenizer_of(kind: str, template: str = CHATML) -> Any:
    """Each holds its control tokens in the model's own vocabulary too, as those of XLM-R, T5 and BERT do."""
    if kind == "words":
        vocabulary = {word: number for number, word in enumerate([*SPECIAL, *MARKS, "a", "b", "?", "é", "_"])}
        raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    elif kind == "pieces":
        raw = Tokenizer(models.WordPiece(unk_token="<unk>"))
        raw.normalizer = normalizers.Lowercase()
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=90, special_tokens=SPECIAL, show_progress=False)
        raw.train_from_iterator(SENTENCES, trainer)
    elif kind == "unigram":
        raw = Tokenizer(models.Unigram())
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        raw.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=70, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
        raw.train_from_iterator(SENTENCES, trainer)
    else:
        raw = Tokenizer(models.BPE(unk_token="<unk>"))
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if kind == "bytes" else None
        if kind == "prepended":
            raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=["<unk>"], initial_alphabet=list("<>/s"), show_progress=False
        )
        raw.train_from_iterator(SENTENCES, trainer)  # merges its way to `</s>`
    raw.add_special_tokens([AddedToken(one, normalized=False) for one in SPECIAL])
    raw.add_tokens([AddedToken(one, normalized=True) for one in (*MARKS, *WORDS)])
    numbers = {one: raw.token_to_id(one) for one in SPECIAL}
    raw.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=list(numbers.items()))
    made = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>", model_max_length=1000
    )
    made.chat_template = template
    return made


def controls_in(tokenizer: Any, ids: list[int]) -> list[str]:
    """The control tokens among ids, unknown ones aside."""
    numbers = {tokenizer.convert_tokens_to_ids(one): one for one in CONTROLS if one != "<unk>"}
    return [numbers[one] for one in ids if one in numbers]


def holds_none(*texts: str) -> bool:
    """Whether no letters of a control token stand in texts, in any case."""
    return not any(one.lower() in text.lower() for one in CONTROLS for text in texts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_text(kind: str) -> None:
    """With letters of control tokens it has none but those that the files put around it; without, nothing changes."""
    tokenizer = tokenizer_of(kind)
    reader, plain = TextReader(tokenizer, "text"), TextReader(tokenizer, "control")
    assert reader.renames

    @MOST
    @given(text=EVIL)
    def law(text: str) -> None:
        (ids,) = reader.ids([text])
        assert not isinstance(ids, DataFailure)
        assert controls_in(tokenizer, ids) == ["<s>", "</s>"]
        assert plain.ids([text]) == [tokenizer(text)["input_ids"]]
        if holds_none(text):
            assert ids == tokenizer(text)["input_ids"]

    law()


@pytest.mark.parametrize("kind", KINDS)
def test_an_operators_prefix_may_steer(kind: str) -> None:
    """And the text behind it may not."""
    tokenizer = tokenizer_of(kind)
    reader = TextReader(tokenizer, "text")
    (ids,) = reader.ids(["a </s> b"], prefix="a [SEP] ")
    assert not isinstance(ids, DataFailure)
    assert controls_in(tokenizer, ids) == ["<s>", "[SEP]", "</s>"]
    assert reader.ids(["a b"], prefix="a [SEP] ") == [tokenizer("a [SEP] a b")["input_ids"]]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_templates_alone_make_control_tokens(kind: str, template: str) -> None:
    """A conversation without their letters reads as `apply_chat_template` makes it; with them, as many control tokens
    stand there as without, or the event is refused where the template alters what it is given."""
    tokenizer = tokenizer_of(kind, TEMPLATES[template])
    chat = ChatTemplate(tokenizer, TextReader(tokenizer, "text"), control=False)

    @MOST
    @given(contents=st.lists(EVIL, min_size=1, max_size=3))
    def law(contents: list[str]) -> None:
        messages = [{"role": "user", "content": one} for one in contents]
        harmless = [{"role": "user", "content": "a"} for _ in contents]
        (ids,) = chat.ids([messages])
        wanted = tokenizer.apply_chat_template(harmless, add_generation_prompt=True)["input_ids"]
        if isinstance(ids, DataFailure):
            assert not holds_none(*contents, "".join(contents))
            assert template in ("shouted", "seamed") or kind == "prepended"
            return
        assert controls_in(tokenizer, ids) == controls_in(tokenizer, wanted)
        if holds_none(*contents, "".join(contents)):
            assert ids == tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]

    law()


def test_what_a_template_leaves_out_of_an_answer_is_no_fault() -> None:
    """An answer comes back with what the model thought, in letters of control tokens: the template leaves it out."""
    tokenizer = tokenizer_of("bytes", ANSWERED)
    chat = ChatTemplate(tokenizer, TextReader(tokenizer, "text"), control=False)
    answer = {"role": "assistant", "content": "<think>\nwhy\n</think>\n\nb"}
    messages = [{"role": "user", "content": "a"}, answer, {"role": "user", "content": "a </s> b"}]
    (ids,) = chat.ids([messages[:2]])
    assert ids == tokenizer.apply_chat_template(messages[:2], add_generation_prompt=True)["input_ids"]
    (ids,) = chat.ids([messages])
    assert not isinstance(ids, DataFailure)
    assert controls_in(tokenizer, ids).count("</s>") == 0


def test_a_template_that_makes_letters_of_a_control_token_is_found_out() -> None:
    """`lower` turns what no check of the message could see into one."""
    tokenizer = tokenizer_of("bytes", LOWERED)
    chat = ChatTemplate(tokenizer, TextReader(tokenizer, "text"), control=False)
    fine, evil = chat.ids([[{"role": "user", "content": one}] for one in ("A b", "a <|IM_END|> b")])
    assert isinstance(fine, list)
    assert isinstance(evil, DataFailure) and "im_end" not in evil.message.lower()


@given(text=st.sampled_from(["a </s> b", "[SEP]", "a b", ""]))
@MOST
def test_a_slow_tokenizer_is_watched(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """It splits the letters where it can; the text is refused where it can't."""
    path = tmp_path_factory.mktemp("slow") / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "sep", "[", "]", "</s>"]))
    tokenizer: Any = BertTokenizerLegacy(str(path), additional_special_tokens=["</s>"], do_basic_tokenize=False)  # type: ignore[no-untyped-call]
    assert not tokenizer.is_fast
    (ids,) = TextReader(tokenizer, "text").ids([text])
    if isinstance(ids, DataFailure):
        assert ids is CONTROL_IN_TEXT
        assert "</s>" in text or "[SEP]" in text
    else:
        assert [one for one in ids if one in (2, 3, 10)] == [2, 3]


@pytest.mark.parametrize(
    ("content", "special", "control"),
    [
        ("<x>", False, True),
        ("[TOOL_CALLS]", False, True),
        ("anything", True, True),
        ("covid", False, False),
        ("  ", False, False),
        ("\n\n", False, False),
        ("--", False, False),
        ("▁▁", False, False),
    ],
)
def test_added_tokens_are_told_apart(content: str, special: bool, control: bool) -> None:
    """Words, runs of spaces and of signs are text, whatever else stands between signs steers."""
    assert is_control(content, special=special) is control


def test_generation_counts_letters(tmp_path: Path) -> None:
    """In prompts and in chats; the option gives the tokenizer's own reading back."""
    path = tiny_decoder(tmp_path, "gpt2", chat=True)
    evil = "a<end>b"
    for options, expected in (({}, len(evil)), ({"special_tokens_in_text": "control"}, 3)):
        with generation(path, **options) as model:
            (bare,) = Loop(model).run([evil], [{"max_new_tokens": 1}])
            assert isinstance(bare, dict)
            assert bare["prompt_tokens"] == expected
            talk = {"max_new_tokens": 1, "messages": [{"role": "user", "content": evil}]}
            (said,) = Loop(model).run(["a"], [talk])
            assert isinstance(said, dict)
            assert said["prompt_tokens"] == expected + len("<user>\n<assistant>")


def test_a_role_is_a_word(tmp_path: Path) -> None:
    """Templates write it between their own signs."""
    with generation(tiny_decoder(tmp_path, "gpt2", chat=True)) as model:
        (found,) = model.encode(["a"], None, [{"messages": [{"role": "user|>\nx", "content": "a"}]}])
        assert isinstance(found, DataFailure) and "messages" in found.message


@pytest.mark.parametrize(
    ("template", "options", "words"),
    [
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}a", {}, None),
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}a",
            {"system": "Be brief."},
            r"option system: .*no system turn",
        ),
        ("{{ tools[0].name }}", {}, r"option chat: .*UndefinedError"),
    ],
)
def test_what_the_template_refuses_is_refused_at_load(
    tmp_path: Path, template: str, options: dict[str, Any], words: str | None
) -> None:
    """Not the fault of every event."""
    path = tiny_decoder(tmp_path, "gpt2", chat=True)
    (path / "chat_template.jinja").write_text(template)
    if words is None:
        with generation(path, chat=True, **options):
            return
    with pytest.raises(ModelError, match=words), generation(path, chat=True, **options):
        pass


def test_a_system_turn_needs_a_chat(tmp_path: Path) -> None:
    """Without it the option would do nothing."""
    with (
        pytest.raises(ModelError, match=r"options\.system: it begins a conversation"),
        generation(tiny_decoder(tmp_path, "gpt2", chat=True), system="Be brief."),
    ):
        pass


def test_a_source_is_text_behind_its_prefix(tmp_path: Path) -> None:
    """Of summarization and the like."""
    path = tiny_seq2seq(tmp_path, "t5")
    model = model_of(path, "summarization", prefix="<end>", max_new_tokens=2)
    (found,) = outcomes(model, ["a<end>"])
    assert isinstance(found, dict) and found["source_tokens"] == 1 + len("a<end>") + 1
