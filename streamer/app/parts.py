"""The parts that every kind of run makes of a configuration: the core's policy, the cache, the encoder of outcomes."""

from __future__ import annotations

import logging
from collections.abc import Callable

from streamer.app.failure import failure
from streamer.cache.events import OnEvent, ignore
from streamer.cache.late import LateCache
from streamer.cache.null import NullCache
from streamer.config.load import Config
from streamer.core.events.framed import Seal
from streamer.core.pipeline.breaker import BreakerPolicy
from streamer.core.pipeline.policy import Policy
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.results.encoder import Encoder, OutputLimits
from streamer.core.stored import Vault
from streamer.kafka.clients import in_flight_bytes
from streamer.ports import Cache, Post

NO_LIMITS = OutputLimits(1 << 31, 1 << 31)
"""Where no topic limits what an outcome may be."""

log = logging.getLogger(__name__)


def policy_of(config: Config, name: str, workers: int, accept_dead_letters: int = 0) -> Policy:
    """The pipeline's settings as the core needs them."""
    pipeline = config.pipelines[name]
    return Policy(
        name=name,
        workers=workers,
        lease_s=pipeline.lease_s,
        load_s=pipeline.load_s,
        budget_bytes=in_flight_bytes(pipeline.budget_mb),
        lru_bytes=config.cache.memory_mb * 1_000_000,
        shared_cache=bool(config.cache.url),
        settings={
            "options": pipeline.options,
            "on_overflow": pipeline.on_overflow,
            "compile": pipeline.compile,
        },
        max_spans_per_s=config.telemetry.max_spans_per_s if config.telemetry.spans else 0,
        breaker=BreakerPolicy(pipeline.breaker_share, pipeline.breaker_window, accept=accept_dead_letters),
    )


def encoder_of(
    config: Config,
    name: str,
    card: ModelCard,
    limits: OutputLimits = NO_LIMITS,
    newest: Callable[[bool], OutputLimits] | None = None,
    seal: Seal | None = None,
) -> Encoder:
    """What makes records of the pipeline's outcomes."""
    pipeline = config.pipelines[name]
    return Encoder(
        pipeline=name,
        task=pipeline.task,
        card=card,
        output_topic=pipeline.output,
        dead_letter_topic=pipeline.dead_letter,
        limits=limits,
        newest=newest,
        seal=seal,
        by_key=pipeline.partitioning == "key",
    )


def make_cache(config: Config, name: str, post: Post, on_event: OnEvent = ignore) -> Cache:
    """Redis for the pipeline `name`, or nothing. What is wrong with a key file that the configuration names is posted;
    without a default one answers are not shared."""
    if not config.cache.url:
        return NullCache(post)

    def make() -> Cache:
        from streamer.cache.redis_cache import RedisCache
        from streamer.cache.secret import NoKeyError, secret_of
        from streamer.core.results.outputs import parser_of

        try:
            secret = secret_of(config.cache.key_file)
        except NoKeyError as error:  # a cache saves work: without one all is answered, too
            log.warning("answers are not shared through Redis: %s", error)
            return NullCache(post)
        vault = Vault(secret) if secret else Vault(secret, parser_of(config.pipelines[name].task))
        return RedisCache(config.cache.url, vault, config.cache.ttl_s, post, on_event=on_event)

    return LateCache(make, lambda error: post(failure(error, "the cache could not be set up")))
