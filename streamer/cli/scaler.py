"""`streamer scaler`: tells KEDA how many replicas each pipeline needs."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import click

from streamer.cli.ending import told
from streamer.cli.options import chosen_pipelines, config_options, loaded, number
from streamer.cli.stop_event import stop_event
from streamer.errors import ExitCode, UsageError
from streamer.extras import require
from streamer.stopping import Stopping

_log = logging.getLogger("streamer.scaler")

_pem = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 in a container."
)
@number("--port", 9480, "The port to listen on; 0 takes any free one.", min=0, max=65535)
@number(
    "--every-s",
    2.0,
    "Seconds between two looks at a pipeline. One without replicas is woken within this time.",
    min=0.1,
    max=60,
)
@click.option("--tls-cert", type=_pem, help="The server's certificate, PEM. Read again when it changes.")
@click.option("--tls-key", type=_pem, help="The key of that certificate, PEM.")
@click.option("--client-ca", type=_pem, help="Serve only clients whose certificate this authority signed, PEM.")
@config_options
def scaler(
    host: str,
    port: int,
    every_s: float,
    tls_cert: Path | None,
    tls_key: Path | None,
    client_ca: Path | None,
    config_path: str | None,
    overrides: tuple[str, ...],
    verbose: bool,
) -> None:
    """Tell KEDA how many replicas each pipeline needs, from none to one per partition.

    It is an external-push scaler: a ScaledObject has a trigger of type external-push with this server's address as
    scalerAddress, and in its metadata the pipeline, the drain time wanted, and more. deploy/keda/external-push.yaml is
    an example.

    It counts the records that a replica can read: no transaction markers, no deleted or aborted records. What one
    replica settles is learned from the reports. While the brokers do not answer its calls fail, so that KEDA uses the
    ScaledObject's fallback.
    """
    stopping = Stopping()
    from streamer.telemetry.logs import configure, last_words

    config = loaded(config_path, overrides)
    chosen_pipelines(config, ())
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together; give both")
    if client_ca is not None and tls_cert is None:
        raise UsageError("--client-ca needs TLS; give --tls-cert and --tls-key, too")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC writes its own lines, one for each handshake that fails
    require("the scaler", "scaler")
    from streamer.scaler.serve import Certificates, serve

    configure(config.telemetry.log_format, "debug" if verbose else config.telemetry.log_level)
    certificates = Certificates(tls_cert, tls_key, client_ca) if tls_cert and tls_key else None

    def started(bound: int) -> None:
        data = {"address": f"{host}:{bound}", "pipelines": list(config.pipelines)}
        _log.info("the scaler listens%s", "" if certificates else ", without TLS", extra={"data": data})

    async def until_stopped() -> None:
        await serve(config, host, port, every_s, stop_event(stopping), started, certificates)

    try:
        asyncio.run(until_stopped())
        code = int(ExitCode.DONE)
    except Exception as error:
        code = told(error)
    # The clients' destructors may wait for a broker that is gone.
    last_words()
    os._exit(code)
