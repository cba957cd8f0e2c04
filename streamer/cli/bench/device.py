"""`streamer bench device`: what a device does, and whether it does so rightly."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.core import ParameterSource

from streamer.cli.bench.shown import progress, rounds, show
from streamer.cli.options import number
from streamer.errors import ExitCode
from streamer.extras import require

ONE_WORKER = ("model", "shape", "dtype", "backend", "threads", "batch_tokens", "texts", "tokens", "rounds")
"""Options that a check of the whole device does not have."""


@click.command()
@click.option("--model", default="", metavar="REFERENCE", help="The encoder to measure. Default: MiniLM.")
@click.option(
    "--shape", type=click.Choice(["minilm", "base", "large"]), help="Use random weights of this shape instead."
)
@click.option("--device", default="auto", show_default=True, help="Where it runs: auto, cpu or cuda:N.")
@click.option("--dtype", default="auto", show_default=True, help="Precision: auto, float32, bfloat16 or float16.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "torch", "openvino"]),
    default="auto",
    show_default=True,
    help="Which library runs the network.",
)
@number("--threads", 1, "How many CPU threads to use.")
@click.option(
    "--batch-tokens", type=click.IntRange(0), default=0, help="Tokens in a forward batch. Default: the device's."
)
@number("--texts", 4000, "How many texts a round has.", min=64)
@number("--tokens", 104, "How many tokens a text has on average.", min=3)
@rounds(what="How many rounds to run.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Check the whole device instead, and write what is found to this folder as it comes.",
)
@number("--minutes", 9.0, "How long the checks of --out may take.", min=0, min_open=True)
@click.option("--dry-run", is_flag=True, help="The checks of --out with tiny models: to see that all of them run.")
@click.option(
    "--bootstrap-servers", default="", metavar="HOST:PORT", help="A Kafka for the checks of --out. Default: start one."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document that also describes the host.")
@click.pass_context
def device(
    context: click.Context,
    model: str,
    shape: str | None,
    device: str,
    dtype: str,
    backend: str,
    threads: int,
    batch_tokens: int,
    texts: int,
    tokens: int,
    rounds: int,
    out: Path | None,
    minutes: float,
    dry_run: bool,
    bootstrap_servers: str,
    as_json: bool,
) -> ExitCode:
    """Measure tokens a second of one worker fed from memory, on a CPU or a GPU: no Kafka, and no weights needed.

    With --out: check the whole device, with random weights. Each family of tasks must answer as it does on the CPU.
    Padded, packed and recorded passes, workers, language models, memory that runs out, the tests that need a GPU, and
    throughput through Kafka follow, each with a time limit of its own. What is missing here is skipped by name. Exits
    1 when a check failed.
    """
    if out is not None:
        for name in ONE_WORKER:
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
                option = f"--{name.replace('_', '-')}"
                raise click.BadParameter("it is for one worker, and --out checks the whole device", param_hint=option)
        return check(out, device, minutes, bootstrap_servers, small=dry_run, as_json=as_json)
    if dry_run:
        raise click.BadParameter("it needs --out, the folder to write to", param_hint="--dry-run")
    require("this benchmark", "inference", *(() if model or shape else ("demo",)))
    import tempfile

    from streamer.bench.device.speed import device_speed, quiet, random_encoder, spec_of

    given = {"device": device, "dtype": dtype, "backend": backend, "threads": threads, "batch_tokens": batch_tokens}
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as folder:
        quiet(spec_of(model, **given))  # type: ignore[arg-type]
        if shape:
            os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"  # what is found out about random weights is worth nothing
            model = str(random_encoder(Path(folder, shape), shape))
        spec = spec_of(model, **given)  # type: ignore[arg-type]
        show([device_speed(spec, texts, tokens, rounds, progress)], as_json)
    return ExitCode.DONE


def check(out: Path, device: str, minutes: float, bootstrap_servers: str, *, small: bool, as_json: bool) -> ExitCode:
    """All checks of a device."""
    require("this benchmark", "inference")
    import tempfile

    from streamer.bench.device.program import found, run_all
    from streamer.bench.device.report import bad, sections
    from streamer.bench.device.speed import quiet, spec_of
    from streamer.bench.device.steps import STEPS, Settings

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.BadParameter(f"{out}: {error.strerror}", param_hint="--out") from None
    chosen = device if device != "auto" else "cpu" if small else found()
    progress(f"the checks run on {chosen}" + (", with tiny models" if small or chosen == "cpu" else ""))
    with tempfile.TemporaryDirectory(prefix="streamer-device-", ignore_cleanup_errors=True) as folder:
        quiet(spec_of("", device=chosen, dtype="auto", backend="torch", threads=1, batch_tokens=0))
        settings = Settings(chosen, small or chosen == "cpu", Path(folder), bootstrap_servers)
        lines = run_all(STEPS, settings, out, minutes, progress)
    show(sections(lines), as_json)
    return ExitCode.BUG if bad(lines) else ExitCode.DONE
