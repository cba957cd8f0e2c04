"""What an evaluation comes to, in sentences that a person understands first."""

from __future__ import annotations

from typing import Final

from streamer.core.health.evaluation.certainty import Interval, share_interval
from streamer.core.health.evaluation.evaluation import Difference, Evaluation, Example, Versus
from streamer.core.health.quality.quality import Quality
from streamer.core.tally import plural

ENOUGH: Final = 10
"""Texts that a label needs to be called the weakest, if any label has as many."""
ENOUGH_ANSWERS: Final = 100
"""Answers that are needed to say whether confidence can be trusted."""
MISCALIBRATED: Final = 0.05


def headline(evaluation: Evaluation) -> str:
    """One sentence: how right the model is, how sure that is, and where it is weakest."""
    quality = evaluation.quality
    if not quality.answered:
        return "no text was answered"
    parts = [_main(quality), *_weakest(quality)]
    return "; ".join(parts)


def remarks(evaluation: Evaluation) -> list[str]:
    """What else has to be known to read the numbers: what was not answered, not asked, or can't be right."""
    quality = evaluation.quality
    found = []
    if quality.failed:
        codes = ", ".join(f"{code} {count:,}" for code, count in sorted(quality.failed.items()))
        text = f"{plural(quality.without_answer, 'row')} got no answer ({codes}) and count in no other number"
        if quality.confusion is not None:
            total = quality.confusion.total + quality.without_answer
            text += f"; counted as wrong, accuracy is {quality.confusion.right / total:.3f}"
        found.append(text)
    if evaluation.unlabelled:
        found.append(f"{plural(evaluation.unlabelled, 'row')} without a label left out")
    if foreign := quality.foreign():
        each = ", ".join(
            f"{label} ({texts:,})" for label, texts in sorted(foreign.items(), key=lambda one: -one[1])[:8]
        )
        found.append(f"labels that the model does not give, so that it is wrong about each: {each}")
    if quality.calibration is not None and quality.calibration.total >= ENOUGH_ANSWERS:
        found.append(_calibrated(quality))
    if quality.regression is not None and quality.regression.texts > quality.regression.limit:
        found.append(f"Spearman's correlation is that of a sample of {quality.regression.limit:,} texts")
    if quality.perplexity is not None and quality.perplexity.unscored:
        found.append(f"{plural(quality.perplexity.unscored, 'text')} with too few tokens to predict one")
    return found


def verdict(first: Evaluation, versus: Versus) -> str:
    """Which of both models is better, or that it can't be told."""
    names = {"first": first.name, "second": versus.second.name}
    if names["first"] == names["second"]:
        names = {"first": "the first model", "second": "the second model"}
    over = f"over {plural(versus.texts, 'text')} that both answered"
    if not versus.texts:
        return "no text was answered by both models"
    told = told_difference(versus.difference)
    if versus.p is not None:
        only = [f"only {names['first']} is right about {versus.only_first:,}"]
        only.append(f"only {names['second']} about {versus.only_second:,}")
        told = f"{told}; {', '.join(only)}, p {_p(versus.p)} (McNemar)"
    if versus.winner is None:
        return f"it is unclear which model is better {over}: {told}"
    return f"{names[versus.winner]} is better {over}: {told}"


def told_difference(difference: Difference) -> str:
    """As in "accuracy +0.012 (95 % interval +0.003 to +0.021)"."""
    words = metric_words(difference.metric)
    if difference.low is None or difference.high is None:
        return f"{words} {difference.value:+.3f}"
    return f"{words} {difference.value:+.3f} (95 % interval {difference.low:+.3f} to {difference.high:+.3f})"


def told_example(example: Example) -> str:
    """As in "label: negative; answer: positive"."""
    return "; ".join(
        f"{name}: {value}" for name, value in (("label", example.truth), ("answer", example.answer)) if value
    )


def metric_words(metric: str) -> str:
    """A number's name in words: `f1_macro` is "F1 (macro)"."""
    name, _, how = metric.partition("_")
    if how in ("micro", "macro", "weighted", "partial"):
        return f"{'F1' if name == 'f1' else name} ({how})"
    return {"ece": "ECE", "mae": "MAE", "rmse": "RMSE", "rouge_l": "ROUGE-L", "brier": "Brier score"}.get(
        metric, metric.replace("_", " ").replace("f1", "F1")
    )


def main_metrics(quality: Quality) -> dict[str, float]:
    """The numbers to look at first; those of single labels and what follows from others are left out."""
    left_out = ("precision_", "recall_", "accuracy_of_all", *(("f1_micro",) if quality.confusion is not None else ()))
    return {
        name: value
        for name, value in quality.metrics().items()
        if value is not None and "." not in name and not name.startswith(left_out)
    }


def _main(quality: Quality) -> str:
    over = f"over {plural(quality.answered, 'text')}"
    metrics = {name: 0.0 if value is None else value for name, value in quality.metrics().items()}
    if quality.confusion is not None:
        interval = share_interval(quality.confusion.right, quality.confusion.total)
        return f"accuracy {metrics['accuracy']:.3f} ({_told(interval)}) {over}"
    if (labels := quality.multilabel) is not None:
        interval = share_interval(labels.exact, labels.texts)
        told = f"F1 {metrics['f1_micro']:.3f} (micro), {metrics['f1_macro']:.3f} (macro)"
        return f"{told} {over}; all labels right for {labels.subset_accuracy:.3f} of them ({_told(interval)})"
    if quality.spans is not None:
        f1, partial = metrics["f1_micro"], metrics["f1_partial"]
        return f"F1 {f1:.3f} by whole entities {over}; {partial:.3f} where an overlap counts half"
    if (answers := quality.answers) is not None:
        interval = share_interval(answers.exact, answers.texts)
        return f"exact match {metrics['exact_match']:.3f} ({_told(interval)}), word F1 {metrics['word_f1']:.3f} {over}"
    if quality.texts is not None:
        length = metrics["length_ratio"]
        return f"ROUGE-L {metrics['rouge_l']:.3f} {over}, which have {length:.2f} times the words of their references"
    if quality.regression is not None:
        rank = quality.regression.spearman
        ranks = "not defined" if rank is None else f"{rank:.3f}"
        return f"mean absolute error {quality.regression.mae:.3g}, rank correlation (Spearman) {ranks} {over}"
    assert quality.perplexity is not None
    tokens = plural(quality.perplexity.tokens, "token")
    value = quality.perplexity.value
    return f"perplexity {'not defined' if value is None else f'{value:,.2f}'} {over} ({tokens})"


def _weakest(quality: Quality) -> list[str]:
    labels = {label: own for label, own in quality.by_label().items() if own.support}
    enough = {label: own for label, own in labels.items() if own.support >= ENOUGH} or labels
    if len(labels) < 2:
        return []
    label, own = min(enough.items(), key=lambda each: (each[1].recall, each[0]))
    return [] if own.recall == 1.0 else [f"weakest label: {label}, recall {own.recall:.2f}"]


def _calibrated(quality: Quality) -> str:
    assert quality.calibration is not None
    ece, over = quality.calibration.ece, quality.calibration.overconfidence
    if ece < MISCALIBRATED:
        return f"its confidence can be trusted: off by {ece:.3f} on average (ECE)"
    how = "promises more than it keeps" if over > 0 else "is right more often than it says"
    if abs(over) < ece / 2:
        how = "is too sure in places and not sure enough in others"
    return f"its confidence is off by {ece:.3f} on average (ECE): it {how}"


def _told(interval: Interval) -> str:
    return f"95 % interval {interval.low:.3f}–{interval.high:.3f}"


def _p(p: float) -> str:
    return f"= {p:.2g}" if p >= 1e-4 else "< 0.0001"
