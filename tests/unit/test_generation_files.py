"""Each generation field of a model's files is done as `generate` does it, changes nothing, or is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.generation.files import asked_fields, ids_of, task_entry
from tests.generation_kit import Loop, Plain, generation
from tests.language_models import END_ID, edit_json, tiny_decoder, tiny_seq2seq
from tests.unit.tasks_kit import model_of, outputs

pytestmark = pytest.mark.usefixtures("fewer_checked_tokens")

TEXTS = ["The film was good", "a", "One more text, which is longer."]
DONE: list[dict[str, Any]] = [
    {"num_return_sequences": 2, "do_sample": True, "temperature": 0.6},
    {"num_beams": 3, "num_return_sequences": 3},
    {"num_beams": 3, "length_penalty": 3.0, "early_stopping": "never", "diversity_penalty": 0.5},
    {"return_dict_in_generate": True, "output_scores": True, "output_logits": True, "output_attentions": True},
    {"output_hidden_states": True, "cache_implementation": "dynamic", "prompt_lookup_num_tokens": 3},
    {"repetition_penalty": 1.7},
    {"no_repeat_ngram_size": 1},
    {"encoder_repetition_penalty": 2.5},
    {"encoder_no_repeat_ngram_size": 2},
    {"suppress_tokens": list(range(90))},
    {"begin_suppress_tokens": list(range(140))},
    {"bad_words_ids": [[number] for number in range(120)]},
    {"sequence_bias": [[[65], 30.0], [[70], -30.0]]},
    {"forced_bos_token_id": 71},
    {"forced_eos_token_id": 72},
    {"exponential_decay_length_penalty": [2, 1.5]},
    {"min_new_tokens": 6, "renormalize_logits": True},
    {"eos_token_id": [END_ID, *range(60, 130)]},
    {"num_beams": 2, "eos_token_id": [END_ID, *range(60, 90)]},
    {"use_cache": False, "transformers_version": "4.1.0", "_from_model_config": True},
    {"penalty_alpha": 0.0, "guidance_scale": 1.0, "num_beam_groups": 1, "max_time": None, "forced_decoder_ids": None},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"penalty_alpha": 0.6, "top_k": 4}, "penalty_alpha"),
    ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}, "num_beam_groups"),
    ({"max_time": 0.5}, "max_time"),
    ({"guidance_scale": 1.5}, "guidance_scale"),
    ({"dola_layers": "high"}, "dola_layers"),
    ({"token_healing": True}, "token_healing"),
    ({"watermarking_config": {"bias": 2.0}}, "watermarking_config"),
    ({"force_words_ids": [[5]]}, "force_words_ids"),
    ({"forced_decoder_ids": [[1, 70]]}, "forced_decoder_ids"),
    ({"a_field_of_the_future": 3}, "a_field_of_the_future"),
    ({"cache_implementation": "quantized"}, "cache_implementation"),
    ({"num_return_sequences": 3}, "num_return_sequences"),
    ({"bad_words_ids": [["a"]]}, "bad_words_ids"),
    ({"stop_strings": [3]}, "stop_strings"),
    ({"is_assistant": True}, "is_assistant"),
    ({"max_length": "20"}, "max_length must be a whole number of at least 1, not '20'"),
    ({"num_beams": 0}, "num_beams must be"),
    ({"min_length": -1}, "min_length must be"),
    ({"temperature": "hot"}, "temperature must be a number"),
    ({"eos_token_id": [7, "</s>"]}, "eos_token_id must be a token id or a list of them"),
]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose generation_config.json each test writes anew."""
    return tiny_decoder(tmp_path_factory.mktemp("gpt2"), "gpt2")


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder-decoder, likewise."""
    return tiny_seq2seq(tmp_path_factory.mktemp("bart"), "bart")


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose config.json each test gives `task_specific_params`."""
    return tiny_seq2seq(tmp_path_factory.mktemp("t5"), "t5")


def write(path: Path, fields: dict[str, Any]) -> None:
    """generation_config.json with these fields beside the ids."""
    own = {"bos_token_id": 258, "eos_token_id": END_ID, "pad_token_id": 257}
    if "bart" in path.name or "t5" in path.name:
        own["decoder_start_token_id"] = 257
    edit_json(path / "generation_config.json", lambda _: own | fields)


def plain_targets(path: Path, texts: list[str], **options: Any) -> list[str]:
    """transformers as its documentation shows it, one text at a time."""
    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    network: Any = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32)
    network.eval()
    found = []
    for text in texts:
        given = tokenizer(text, return_tensors="pt", truncation=True)
        with torch.inference_mode():
            row = network.generate(
                **given, **{"do_sample": False, "num_return_sequences": 1, "return_dict_in_generate": False, **options}
            )[0]
        found.append(str(tokenizer.decode(row, skip_special_tokens=True)))
    return found


@pytest.mark.parametrize("fields", DONE, ids=lambda fields: "-".join(fields))
def test_prompts_are_generated_as_the_files_say(gpt2: Path, fields: dict[str, Any]) -> None:
    """Of one text at a time, in a batch of all."""
    write(gpt2, fields)
    plain = Plain(gpt2)
    own = {"num_return_sequences": 1, "return_dict_in_generate": False}
    most = [9, 7, 9]
    expected = [
        plain.generate(plain.ids(text), max_new_tokens=limit, **own)["text"]
        for text, limit in zip(TEXTS, most, strict=True)
    ]
    with generation(gpt2) as model:
        found = Loop(model).run(TEXTS, [{"max_new_tokens": limit} for limit in most])
    assert [one["text"] for one in found if isinstance(one, dict)] == expected


@pytest.mark.parametrize("fields", DONE, ids=lambda fields: "-".join(fields))
def test_targets_are_generated_as_the_files_say(bart: Path, fields: dict[str, Any]) -> None:
    """Of one text at a time, in a batch of all."""
    write(bart, fields)
    expected = plain_targets(bart, TEXTS, max_new_tokens=9)
    model = model_of(bart, "text2text-generation", max_new_tokens=9)
    assert [one["text"] for one in outputs(model, TEXTS)] == expected


@pytest.mark.parametrize(("fields", "name"), REFUSED)
def test_what_is_not_done_is_refused_by_its_name(gpt2: Path, bart: Path, fields: dict[str, Any], name: str) -> None:
    """With the file's, at load."""
    for path, task in ((gpt2, "text-generation"), (bart, "summarization")):
        write(path, fields)
        with pytest.raises(ModelError, match=rf"generation_config\.json.*{name}"):
            model_of(path, task)


def test_every_field_of_transformers_is_judged() -> None:
    """One that the next version adds is refused until somebody looks at it."""
    judged = {}
    for name in GenerationConfig().to_dict():  # type: ignore[no-untyped-call]
        try:
            judged[name] = "asked" if asked_fields({name: 7}, "generation_config.json") else "harmless"
        except ModelError as error:
            judged[name] = "unknown" if "not known" in str(error) else "refused"
    unknown = {name for name, verdict in judged.items() if verdict == "unknown"}
    assert unknown == {
        "is_assistant",
        "assistant_early_exit",
        "assistant_ensemble_weight",
        "use_mtp",
    }


def a_letter(texts: list[str]) -> str:
    """One that some text has behind its first."""
    return next(letter for text in texts for letter in text[1:-1] if letter.isascii())


@pytest.mark.parametrize("beams", [1, 2])
def test_stop_strings_of_the_files_end_a_text_and_stay(gpt2: Path, bart: Path, beams: int) -> None:
    """As `generate` with its tokenizer does it; those of an event are cut off."""
    write(gpt2, {"num_beams": beams})
    plain = Plain(gpt2)
    whole = [plain.generate(plain.ids(text), max_new_tokens=20)["text"] for text in TEXTS]
    stop = a_letter(whole)
    write(gpt2, {"num_beams": beams, "stop_strings": [stop, "never there"]})
    plain = Plain(gpt2)
    expected = [plain.generate(plain.ids(text), max_new_tokens=20, tokenizer=plain.tokenizer)["text"] for text in TEXTS]
    assert expected != whole
    with generation(gpt2) as model:
        first, *rest, cut = Loop(model).run(
            [*TEXTS, TEXTS[0]], [*[{"max_new_tokens": 20}] * 3, {"max_new_tokens": 20, "stop": stop}]
        )
    assert isinstance(first, dict) and isinstance(cut, dict)
    assert [first["text"], *[one["text"] for one in rest if isinstance(one, dict)]] == expected
    assert cut["text"] == expected[0].split(stop)[0]
    write(bart, {"num_beams": beams})
    unstopped = plain_targets(bart, TEXTS, max_new_tokens=20)
    stop = a_letter(unstopped)
    write(bart, {"num_beams": beams, "stop_strings": stop})
    tokenizer: Any = AutoTokenizer.from_pretrained(bart)
    wanted = plain_targets(bart, TEXTS, max_new_tokens=20, tokenizer=tokenizer)
    found = outputs(model_of(bart, "summarization", max_new_tokens=20), TEXTS)
    assert [one["text"] for one in found] == wanted != unstopped


def test_the_length_of_the_files_holds_where_nobody_says(gpt2: Path) -> None:
    """`max_length` counts the prompt, which may leave no room; an event's own number goes first."""
    write(gpt2, {"max_length": 20})
    plain = Plain(gpt2)
    with generation(gpt2) as model:
        found, longer, own = Loop(model).run([TEXTS[0], TEXTS[2], TEXTS[2]], [None, None, {"max_new_tokens": 3}])
        assert found == plain.generate(plain.ids(TEXTS[0]))
        assert isinstance(longer, DataFailure) and longer.code is Code.INFER_TOO_LONG
        assert own == plain.generate(plain.ids(TEXTS[2]), max_new_tokens=3)
    write(gpt2, {"max_new_tokens": 7})
    with generation(gpt2) as model:
        assert Loop(model).run([TEXTS[0]]) == [plain.generate(plain.ids(TEXTS[0]), max_new_tokens=7)]


def test_end_tokens_are_the_files_and_the_tokenizers(gpt2: Path) -> None:
    """Chat models often end a turn with a token that one of them alone names."""
    write(gpt2, {"eos_token_id": 0})
    plain = Plain(gpt2)
    expected = plain.generate(plain.ids(TEXTS[0]), max_new_tokens=30, eos_token_id=[0, END_ID])
    with generation(gpt2, num_beams=1) as model:
        assert model._ending._end_ids == {0, END_ID}
        (found,) = Loop(model).run([TEXTS[0]], [{"max_new_tokens": 30}])
    assert isinstance(found, dict) and found["text"] == expected["text"]


def test_beams_of_the_files_do_not_sample(gpt2: Path) -> None:
    """An option that asks for both is refused before any event is."""
    write(gpt2, {"num_beams": 3})
    with pytest.raises(ModelError, match=r"generation_config\.json: num_beams is 3"):
        model_of(gpt2, "text-generation", temperature=1.0)
    with generation(gpt2, temperature=1.0, num_beams=1) as model:
        assert len(Loop(model).run(["a"], [{"max_new_tokens": 2}])) == 1


def test_old_models_say_it_in_config_json(bart: Path) -> None:
    """As BART's own does."""
    (bart / "generation_config.json").unlink(missing_ok=True)
    edit_json(bart / "config.json", lambda config: config | {"num_beams": 3, "max_length": 12, "min_length": 6})
    try:
        expected = plain_targets(bart, TEXTS)
        assert [one["text"] for one in outputs(model_of(bart, "summarization"), TEXTS)] == expected
        edit_json(bart / "config.json", lambda config: config | {"max_time": 1.0})
        with pytest.raises(ModelError, match=r"^config\.json: max_time"):
            model_of(bart, "summarization")
    finally:
        ours = ("num_beams", "max_length", "min_length", "max_time")
        edit_json(bart / "config.json", lambda config: {key: config[key] for key in config if key not in ours})


TRANSLATIONS: dict[str, Any] = {
    "translation_en_to_de": {"prefix": "to German: ", "num_beams": 2, "max_length": 7},
    "translation_en_to_fr": {"prefix": "to French: ", "max_length": 9},
}
SUMMARY: dict[str, Any] = {"prefix": "sum: ", "num_beams": 2, "max_length": 8, "min_length": 5, "length_penalty": 2.0}


def test_the_tasks_entry_is_applied_as_the_pipeline_does(t5: Path) -> None:
    """Prefix and generation; options go before it."""
    edit_json(t5 / "config.json", lambda config: config | {"task_specific_params": {"summarization": SUMMARY}})
    own = {name: value for name, value in SUMMARY.items() if name != "prefix"}
    expected = plain_targets(t5, [f"sum: {text}" for text in TEXTS], **own)
    assert [one["text"] for one in outputs(model_of(t5, "summarization"), TEXTS)] == expected
    expected = plain_targets(t5, TEXTS, **own | {"num_beams": 1})
    model = model_of(t5, "summarization", prefix="", num_beams=1)
    assert [one["text"] for one in outputs(model, TEXTS)] == expected
    expected = plain_targets(t5, TEXTS, max_new_tokens=5)
    model = model_of(t5, "text2text-generation", max_new_tokens=5)
    assert [one["text"] for one in outputs(model, TEXTS)] == expected


def test_of_several_translations_the_prefix_says_which(t5: Path) -> None:
    """None is guessed."""
    edit_json(t5 / "config.json", lambda config: config | {"task_specific_params": TRANSLATIONS})
    with pytest.raises(ModelError, match=r"config\.json: task_specific_params.*prefix.*to German"):
        model_of(t5, "translation")
    german = plain_targets(t5, [f"to German: {text}" for text in TEXTS], num_beams=2, max_length=7)
    model = model_of(t5, "translation", prefix="to German: ")
    assert [one["text"] for one in outputs(model, TEXTS)] == german
    one = {"translation_en_to_de": TRANSLATIONS["translation_en_to_de"]}
    edit_json(t5 / "config.json", lambda config: config | {"task_specific_params": one})
    assert [one["text"] for one in outputs(model_of(t5, "translation"), TEXTS)] == german
    unknown = {"translation_en_to_de": {"prefix": "", "num_beams": 2, "colour": 3}}
    edit_json(t5 / "config.json", lambda config: config | {"task_specific_params": unknown})
    with pytest.raises(ModelError, match=r"config\.json: task_specific_params\.translation_en_to_de: colour"):
        model_of(t5, "translation")


def test_an_entry_is_chosen_by_task_and_prefix() -> None:
    """A pure decision."""

    class Config:
        task_specific_params: Any = TRANSLATIONS | {"summarization": SUMMARY, "odd": None}

    assert task_entry(Config, "summarization", None) == ("summarization", SUMMARY)
    assert task_entry(Config, "text-generation", None) == ("", {})
    assert task_entry(Config, "translation", "to French: ")[0] == "translation_en_to_fr"
    assert task_entry(Config, "translation", "other: ") == ("", {})
    assert task_entry(object(), "translation", None) == ("", {})
    assert ids_of(None, 3, [4, 3], None) == [3, 4]
