"""What transformers says of one text at a time, in float32: the code that a model's card shows, task by task.

Each function opens a directory and gives what answers an event. Nothing here is the product's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.answers.texts import Event

Answers = Callable[[Event], dict[str, Any]]
"""One event to the output that it must have. Keys that it leaves out may be anything."""


def opened(path: Path, head: str) -> tuple[Any, Any]:
    """Network and tokenizer."""
    import transformers

    network = getattr(transformers, f"AutoModel{head}").from_pretrained(path, dtype=torch.float32).eval()
    return network, transformers.AutoTokenizer.from_pretrained(path)


def read(tokenizer: Any, text: str, pair: str | None, limit: int, cut: bool | str = True) -> Any:
    """One text as tensors; in a list, since by itself an empty pair counts as none."""
    given = [text] if pair is None else [(text, pair)]
    return tokenizer(given, truncation=cut, max_length=limit, return_tensors="pt")


def text_classification(path: Path, limit: int, activation: str = "softmax") -> Answers:
    """All labels, best first."""
    network, tokenizer = opened(path, "ForSequenceClassification")

    def answer(event: Event) -> dict[str, Any]:
        with torch.inference_mode():
            logits = network(**read(tokenizer, event[0], event[1], limit)).logits[0]
        numbers = {"softmax": lambda: logits.softmax(-1), "sigmoid": logits.sigmoid, "none": lambda: logits}
        scores = numbers[activation]().tolist()
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        ranked = [{"label": network.config.id2label[index], "score": scores[index]} for index in order]
        return {**ranked[0], "scores": ranked} if len(ranked) > 1 else ranked[0]

    return answer


def token_classification(path: Path, limit: int, strategy: str = "simple") -> Answers:
    """Entities by the rules of transformers' pipeline. Words are the tokenizer's own, where the pipeline guesses them
    from the letters between. Space is no part of an entity, and what is nothing else is none."""
    network, tokenizer = opened(path, "ForTokenClassification")
    names = network.config.id2label

    def answer(event: Event) -> dict[str, Any]:
        text = event[0]
        given = read(tokenizer, text, None, limit)
        encoding = given.encodings[0]
        with torch.inference_mode():
            scores = network(**given).logits[0].softmax(-1)
        groups: list[tuple[int | None, list[int]]] = []  # the tokens of each word, or each token
        for place in range(len(encoding)):
            if encoding.special_tokens_mask[place]:
                continue
            word = encoding.word_ids[place]
            if strategy in ("first", "average", "max") and groups and groups[-1][0] == word:
                groups[-1][1].append(place)
            else:
                groups.append((word, [place]))
        found: list[dict[str, Any]] = []
        before = "O"
        for _, places in groups:
            rows = scores[places]
            chosen = {"average": lambda rows: rows.mean(0), "max": lambda rows: rows[rows.max(1).values.argmax()]}
            row = chosen.get(strategy, lambda rows: rows[0])(rows)
            label, score = names[int(row.argmax())], float(row.max())
            letters = [
                letter
                for place in places
                if encoding.tokens[place].strip("▁")  # a space before the text has the place of the first letter
                for letter in range(*encoding.offsets[place])
                if not text[letter].isspace()
            ]
            tag = label[2:] if label[:2] in ("B-", "I-") else label
            if strategy != "none" and tag == before and not label.startswith("B-") and found:
                found[-1]["letters"] += letters
                found[-1]["all"].append(score)
            else:
                said = label if strategy == "none" else tag
                found.append({"label": said, "letters": letters, "all": [score]})
            before = tag
        return {
            "entities": [
                {
                    "label": one["label"],
                    "score": math.fsum(one["all"]) / len(one["all"]),
                    "start": min(one["letters"]),
                    "end": max(one["letters"]) + 1,
                    "text": text[min(one["letters"]) : max(one["letters"]) + 1],
                }
                for one in found
                if one["label"] != "O" and one["letters"]
            ]
        }

    return answer


def vector_of(path: Path, limit: int) -> Callable[[str], torch.Tensor]:
    """The mean of a text's last hidden states."""
    network, tokenizer = opened(path, "")

    def vector(text: str) -> torch.Tensor:
        with torch.inference_mode():
            mean: torch.Tensor = network(**read(tokenizer, text, None, limit)).last_hidden_state[0].mean(0)
        return mean

    return vector


def embedding(path: Path, limit: int) -> Answers:
    """The mean vector."""
    vector = vector_of(path, limit)
    return lambda event: {"vector": vector(event[0]).tolist()}


def similarity(path: Path, limit: int) -> Answers:
    """Cosines of mean vectors."""
    vector = vector_of(path, limit)

    def score(text: str, other: str) -> float:
        return float(torch.nn.functional.cosine_similarity(vector(text), vector(other), dim=0))

    return lambda event: scored(event, score)


def rerank(path: Path, limit: int) -> Answers:
    """A cross-encoder's sigmoid."""
    network, tokenizer = opened(path, "ForSequenceClassification")

    def score(text: str, other: str) -> float:
        with torch.inference_mode():
            return float(network(**read(tokenizer, text, other, limit)).logits[0, 0].sigmoid())

    return lambda event: scored(event, score)


def scored(event: Event, score: Callable[[str, str], float]) -> dict[str, Any]:
    """The score of a pair, or those of candidates and their ranking."""
    text, pair, params = event
    if pair is not None:
        return {"score": score(text, pair)}
    scores = [score(text, one) for one in (params or {})["candidates"]]
    return {"scores": scores, "ranking": sorted(range(len(scores)), key=lambda index: -scores[index])}


def zero_shot_inference(path: Path, limit: int) -> Answers:
    """The pipeline of that name."""
    from transformers import pipeline

    network, tokenizer = opened(path, "ForSequenceClassification")
    tokenizer.model_max_length = limit
    theirs = pipeline("zero-shot-classification", network, tokenizer=tokenizer)

    def answer(event: Event) -> dict[str, Any]:
        # The pipeline refuses an empty text, and pads the pairs of a text where the tokenizer can.
        params = event[2] or {}
        rows = []
        for label in params["candidate_labels"]:
            with torch.inference_mode():
                given = read(tokenizer, event[0], f"This example is {label}.", limit, "only_first")
                rows.append(network(**given).logits[0])
        logits = torch.stack(rows)
        entails = theirs.entailment_id
        if params.get("multi_label") or len(rows) == 1:
            scores = logits[:, [-1 if entails == 0 else 0, entails]].softmax(-1)[:, 1].tolist()
        else:
            scores = logits[:, entails].softmax(-1).tolist()
        return by_score(params["candidate_labels"], scores)

    return answer


def zero_shot_embedding(path: Path, limit: int) -> Answers:
    """Cosines of the text's mean vector and those of the labels."""
    vector = vector_of(path, limit)

    def answer(event: Event) -> dict[str, Any]:
        labels = (event[2] or {})["candidate_labels"]
        text = vector(event[0])
        scores = [float(torch.nn.functional.cosine_similarity(text, vector(label), dim=0)) for label in labels]
        return by_score(labels, scores)

    return answer


def by_score(labels: list[str], scores: list[float]) -> dict[str, Any]:
    """Labels and scores, best first."""
    order = sorted(range(len(labels)), key=lambda index: -scores[index])
    return {"labels": [labels[index] for index in order], "scores": [scores[index] for index in order]}


def question_answering(path: Path, limit: int, longest: int = 15) -> Answers:
    """The likeliest span of the text in whole words, as transformers' pipeline chose it up to version 4: the tokens
    that may begin or end it are those of the text and the first one, which stands for no answer."""
    network, tokenizer = opened(path, "ForQuestionAnswering")

    def answer(event: Event) -> dict[str, Any]:
        question = (event[2] or {})["question"]
        # So it was trained, too: where padding stands on the left, the text does so.
        side = 0 if tokenizer.padding_side == "left" else 1
        pair = [[question], [event[0]]] if side else [[event[0]], [question]]
        cut = "only_second" if side else "only_first"
        given = tokenizer(*pair, truncation=cut, max_length=limit, return_tensors="pt")
        encoding = given.encodings[0]
        with torch.inference_mode():
            output = network(**given)
        places = [place for place, own in enumerate(encoding.sequence_ids) if own == side]
        first = given["input_ids"][0].tolist().index(tokenizer.cls_token_id)
        among = [first, *places]
        starts = dict(zip(among, output.start_logits[0, among].softmax(0).tolist(), strict=True))
        ends = dict(zip(among, output.end_logits[0, among].softmax(0).tolist(), strict=True))
        score, start, end = max(
            (starts[one] * ends[last], one, last) for one in places for last in places if one <= last < one + longest
        )
        begins = encoding.word_to_chars(encoding.token_to_word(start), side)[0]
        stops = encoding.word_to_chars(encoding.token_to_word(end), side)[1]
        said = event[0][begins:stops]
        begins += len(said) - len(said.lstrip())
        return {"answer": said.strip(), "score": score, "start": begins, "end": begins + len(said.strip())}

    return answer


def fill_mask(path: Path, limit: int, top_k: int = 5) -> Answers:
    """The best of the vocabulary at each mask."""
    network, tokenizer = opened(path, "ForMaskedLM")

    def answer(event: Event) -> dict[str, Any]:
        given = read(tokenizer, event[0], None, limit)
        with torch.inference_mode():
            logits = network(**given).logits[0]
        places = (given["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]
        if not len(places):
            raise ValueError("no mask among the tokens that the model reads")
        found = []
        for scores in logits[places].softmax(-1):
            best = scores.topk(top_k)
            found.append(
                [
                    {"token_id": token, "score": score}
                    for token, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ]
            )
        return {"candidates": found}

    return answer


def scoring(path: Path, limit: int) -> Answers:
    """Each token's log-likelihood given those before it; without one, there is no perplexity."""
    network, tokenizer = opened(path, "ForCausalLM")

    def answer(event: Event) -> dict[str, Any]:
        ids = tokenizer(event[0], truncation=True, max_length=limit, return_tensors="pt").input_ids.long()
        if ids.shape[1] < 2:
            return {"perplexity": None, "tokens": 0}
        with torch.inference_mode():
            # xLSTM can't begin its state with a whole text.
            likelihoods = network(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
        found = likelihoods.gather(1, ids[0, 1:, None])[:, 0].tolist()
        total = math.fsum(found)
        return {
            "log_likelihood": total,
            "perplexity": math.exp(-total / len(found)),
            "tokens": len(found),
            "per_token": [{"log_likelihood": one} for one in found],
        }

    return answer


def text_generation(path: Path, limit: int, new_tokens: int = 8, **generate: Any) -> Answers:
    """What `generate` appends to the text; of a text too long the end is read, as a prompt's end counts."""
    network, tokenizer = opened(path, "ForCausalLM")

    def answer(event: Event) -> dict[str, Any]:
        ids = tokenizer(event[0], return_tensors="pt").input_ids.long()[:, -(limit - new_tokens) :]
        if not ids.shape[1]:  # as `generate` begins without a prompt
            ids = torch.tensor([[network.generation_config.bos_token_id]])
        asked = {"max_new_tokens": new_tokens, "do_sample": False, **generate}
        if network.generation_config.stop_strings:
            asked["tokenizer"] = tokenizer
        with torch.inference_mode():
            row = network.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **asked)
        tokens = row[0, ids.shape[1] :].tolist()
        return {
            "text": tokenizer.decode(tokens, skip_special_tokens=True),
            "prompt_tokens": ids.shape[1],
            "completion_tokens": len(tokens),
        }

    return answer


def seq2seq(path: Path, limit: int, prefix: str = "", **generate: Any) -> Answers:
    """What `generate` writes for the text; languages are the event's, else the tokenizer's own."""
    network, tokenizer = opened(path, "ForSeq2SeqLM")
    own_language = getattr(tokenizer, "src_lang", None)

    def answer(event: Event) -> dict[str, Any]:
        params = dict(event[2] or {})
        if own_language is not None:
            tokenizer.src_lang = params.pop("src_lang", own_language)
        asked = {"do_sample": False, **generate}
        if "tgt_lang" in params:
            asked["forced_bos_token_id"] = tokenizer.convert_tokens_to_ids(params.pop("tgt_lang"))
        if "max_new_tokens" in params:
            asked["max_new_tokens"] = params["max_new_tokens"]
        given = tokenizer(prefix + event[0], truncation=True, max_length=limit, return_tensors="pt")
        given.pop("token_type_ids", None)
        with torch.inference_mode():
            row = network.generate(**given, **asked)[0].tolist()
        return {
            "text": tokenizer.decode(row, skip_special_tokens=True),
            "source_tokens": given["input_ids"].shape[1],
        }

    return answer
