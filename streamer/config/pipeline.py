"""The fields of a pipeline: names, types, bounds, defaults, and for each when to change it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, structs

from streamer.config import formats, served
from streamer.config.kinds import kind

TOPIC_NAME = r"^[A-Za-z0-9._-]{1,249}$"
TOPIC_KIND = "the name of a topic: letters, digits, . _ and -, 249 at most"
MOST_MEMBERS: Final = 64
Topic = Annotated[str, Meta(pattern=TOPIC_NAME)]


class PipelineConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One pipeline: what it reads, which model answers, where outcomes go, and its limits."""

    task: Annotated[
        str,
        Meta(
            min_length=1,
            description="What the model does, e.g. text-classification. Change it with the model.",
        ),
    ]
    model: Annotated[
        str,
        Meta(
            min_length=1,
            description="Model reference: a directory, package:NAME/SUBDIR, org/name@REVISION, python:MODULE:CLASS,"
            " builtin:null, or with backend openai or tei the URL of a server. Change it to serve another model; its"
            " digest is in every result.",
        ),
    ]
    adapter: Annotated[
        str,
        Meta(
            description="A LoRA adapter that is merged into the model when it is loaded: a directory, or"
            " org/name@REVISION. Set it to serve a fine-tuned model as peft saves it; its digest is in every result's"
            " revision."
        ),
    ] = ""
    input: Annotated[
        list[Topic],
        kind("one or more names of topics: letters, digits, . _ and -, 249 at most each"),
        Meta(
            min_length=1,
            description="Topics to read; a single name needs no list. Change it to read other topics.",
        ),
    ]
    input_format: formats.InputFormat = "json"
    input_subject: formats.InputSubject = ""
    text_field: formats.TextField = ""
    text_pair_field: formats.TextPairField = ""
    id_field: formats.IdField = ""
    keep: formats.Keep = []
    envelope: formats.Envelope = "none"
    output: Annotated[
        Topic,
        kind(TOPIC_KIND),
        Meta(description="Topic for results, with as many partitions as the input. Any name will do."),
    ]
    output_format: formats.OutputFormat = "json"
    output_subject: formats.OutputSubject = ""
    output_schema_id: formats.OutputSchemaId = "value"
    auto_register: formats.AutoRegister = True
    dead_letter: Annotated[
        str,
        kind(f'{TOPIC_KIND}, or ""'),
        Meta(
            pattern=r"^[A-Za-z0-9._-]{0,249}$",
            description='Topic for dead letters; "" means {output}.dlq. Change it when others choose the names.',
        ),
    ] = ""
    group: Annotated[
        str,
        kind("a string of 200 characters at most, without control characters"),
        Meta(
            max_length=200,
            pattern=r"^[^\x00-\x1f\x7f]*$",
            description='Consumer group; "" means streamer.{pipeline}. A new name reads everything again from `start`:'
            " change it only for that, or where ACLs ask for a prefix.",
        ),
    ] = ""
    guarantee: Annotated[
        Literal["exactly_once", "at_least_once"],
        Meta(
            description="exactly_once settles in transactions. Change it to at_least_once only for brokers without"
            " transactions: repeats then carry the same ce_id."
        ),
    ] = "exactly_once"
    start: Annotated[
        str,
        Meta(
            min_length=1,
            description="Where a new group starts: earliest, latest, or an RFC 3339 time such as 2026-11-24T08:00:00Z."
            " Change it to leave old records out; a group that has offsets ignores it.",
        ),
    ] = "earliest"
    on_out_of_range: Annotated[
        Literal["stop", "earliest"],
        Meta(
            description="What to do when the offset to read from does not exist, because retention deleted it or the"
            " log ends before it: stop with a message, or continue at the earliest record. Set earliest if gaps are"
            " acceptable, and repeated answers after a log was lost."
        ),
    ] = "stop"
    on_overflow: Annotated[
        Literal["truncate", "reject", "window"],
        Meta(
            description="What to do with a text longer than the model reads: truncate it (the result says so), make"
            " it a dead letter, or read all of it in windows that overlap and merge their answers (text- and"
            " token-classification, embedding, question-answering). Set reject when half an answer is worse than none,"
            " window when the end of a text matters as much as its beginning."
        ),
    ] = "truncate"
    allow_downloads: Annotated[
        bool,
        Meta(
            description="Download a model of the hub, org/name@REVISION, that is not in the hub's local cache: once on"
            " a machine, before the workers start, and only safetensors, tokenizer and configuration files. Set true"
            " if this machine may reach the hub, or a mirror that HF_ENDPOINT names."
        ),
    ] = False
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Meta(
            description="The number format that the model computes in; auto takes the fastest that keeps its answers."
            " Set float32 when results must equal a reference."
        ),
    ] = "auto"
    backend: Annotated[
        Literal["auto", "torch", "openvino", "openai", "tei"],
        Meta(
            description="What runs the model. auto takes OpenVINO for encoders on a CPU if it is installed"
            " (the extra cpu) and its numbers agree with torch's, else torch. Name one to rule out the other. openai"
            " and tei ask the server at the URL in `model`: one with OpenAI's API (vLLM, SGLang, llama.cpp …), or"
            " text-embeddings-inference (the extra served)."
        ),
    ] = "auto"
    served_model: served.ServedName = ""
    served_revision: served.ServedRevision = ""
    served_key_env: served.ServedKeyEnv = ""
    served_ca: served.ServedCa = ""
    served_requests: served.ServedRequests = 64
    served_batch: served.ServedBatch = 32
    served_timeout_s: served.ServedTimeout = 120
    served_deadline_s: served.ServedDeadline = 0
    served_fingerprint: served.ServedFingerprint = "pinned"
    compile: Annotated[
        bool,
        Meta(
            description="Compile the network with torch.compile, which takes up to a minute at each start of a worker."
            " Set true for long runs of one model on a GPU, after measuring."
        ),
    ] = False
    device: Annotated[
        str,
        kind("auto, cpu, cuda or cuda:N"),
        Meta(
            pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$",
            description="auto, cpu, cuda or cuda:N. Set cpu to leave the GPU to others.",
        ),
    ] = "auto"
    workers: Annotated[
        int,
        Meta(
            ge=0,
            le=256,
            description="Processes of each member that run the model; 0 means one for each device, or for each share"
            " of the CPU. Raise it when a GPU idles between forward batches.",
        ),
    ] = 0
    members: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_MEMBERS,
            description="Processes of `streamer run` that share the pipeline's partitions on this machine, each with a"
            " slot, workers and a port of its own, and its part of budget_mb and cache.memory_mb. Raise it when"
            " workers, or a GPU, idle because one process can't feed them; one without a partition stands by. 0 begins"
            " with one and adds another while all are busy, and two cores and the memory for each are there; each has"
            " the part of the budgets that it would have with as many members as the cores allow.",
        ),
    ] = 1
    threads: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="CPU threads of each worker; 0 leaves one core to the driver and the rest to the workers. Lower"
            " it when other programs share the machine.",
        ),
    ] = 0
    lease_s: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds that one forward batch may take before its worker counts as hung and is killed. Raise"
            " it for slow models, e.g. long generation on a CPU.",
        ),
    ] = 60
    load_s: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds that a worker may take to load the model before it is killed and started again. Raise"
            " it for models that are read from slow disks.",
        ),
    ] = 900
    linger_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=5,
            description="Milliseconds to wait for more records before a micro-batch is closed. Raise it when forward"
            " batches are small and latency does not matter.",
        ),
    ] = 0
    budget_mb: Annotated[
        int,
        Meta(
            ge=1,
            le=65536,
            description="MB of records in flight, the Kafka client's queue included. Raise it for large records or"
            " many partitions; lower it where memory is short.",
        ),
    ] = 96
    micro_batch_records: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="The most records taken together. Lower it for slow models when latency under load matters.",
        ),
    ] = 8000
    batch_tokens: Annotated[
        int,
        Meta(
            ge=0,
            description="The most tokens in one forward batch; 0 finds out what the device takes. Lower it when others"
            " share the GPU's memory.",
        ),
    ] = 0
    driver_affinity: Annotated[
        Literal["auto", "off"],
        Meta(
            description="Whether the driver keeps its Python threads on one core while it is busy. auto does so on a"
            " machine of two cores, where `builtin:null` moved 6 to 22 % more records so; on others nobody has measured"
            " it, and it stays off. Set off where something else places the threads, or to measure it."
        ),
    ] = "auto"
    partitioning: Annotated[
        Literal["same", "key"],
        Meta(
            description="Where outcomes go: the same partition number as the input, or murmur2 of the key as Java"
            " producers do. Set key to join results with topics of another partition count."
        ),
    ] = "same"
    static_membership: Annotated[
        bool,
        Meta(
            description="Keep a slot's partitions for it over a restart (back in under 1 s). Set false if you scale"
            " often: a member that leaves then gives its partitions away at once."
        ),
    ] = True
    slot: Annotated[
        str,
        kind("letters, digits, . _ and -, 200 at most"),
        Meta(
            pattern=r"^[A-Za-z0-9._-]{0,200}$",
            description='Stable name of this replica; "" means {hostname}-{n}, where n is the lowest that is free.'
            " Set it if host names change with each restart: no two replicas may share one. Of several members the"
            " second adds .2 to it, and so on.",
        ),
    ] = ""
    hold_s: Annotated[
        float,
        Meta(
            gt=0,
            le=60,
            description="Seconds that a full pipeline waits before it pauses its partitions, which drops what was"
            " fetched ahead. Change it only after measuring.",
        ),
    ] = 1.0
    revoke_deadline_s: Annotated[
        float,
        Meta(
            gt=0,
            le=240,
            description="Seconds to settle what is finished before partitions go to another replica. Raise it when"
            " brokers are slow and rebalances repeat work.",
        ),
    ] = 10
    stop_deadline_s: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds to finish and settle after SIGTERM. Keep it below the time after which the process is"
            " killed, e.g. Kubernetes' terminationGracePeriodSeconds (30).",
        ),
    ] = 25
    crash_limit: Annotated[
        int,
        Meta(
            ge=3,
            le=100,
            description="How many processes in a row may die with the same record at the head of its partition, from"
            " the third on with nothing else in flight, before the partition is held until somebody runs"
            " `streamer dlq bury` or `streamer dlq release`. Lower it if restarts are slow and nobody kills processes"
            " by hand.",
        ),
    ] = 6
    breaker_share: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Halt when more than this share of the last `breaker_window` outcomes are records that the"
            " model failed on. Raise it if bad input is normal; 1 never halts.",
        ),
    ] = 0.5
    breaker_window: Annotated[
        int,
        Meta(
            ge=200,
            description="How many outcomes the breaker looks back on. Lower it to halt sooner; raise it to tolerate"
            " bursts.",
        ),
    ] = 1000
    false_alarms_per_month: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="False alarms about drift that the health app may raise of this pipeline in a month; 0 takes"
            " health.false_alarms_per_month. Lower it if alarms disturb more than they help.",
        ),
    ] = 0
    options: Annotated[
        dict[str, Any],
        Meta(description="The task's own options, e.g. top_k or labels. Each task says when to change its own."),
    ] = {}

    @property
    def first_members(self) -> int:
        """How many members there are from the start."""
        return max(1, self.members)


DEFAULTS: Final[Mapping[str, Any]] = {field.name: field.default for field in structs.fields(PipelineConfig)}
"""Of a pipeline's fields, `NODEFAULT` for those that must be given and for lists and tables: who uses a setting without
a configuration takes its default from here."""


def start_time_ms(start: str) -> int | None:
    """Milliseconds since the epoch of a `start` that is a time; None for `earliest` and `latest`.

    Raises ValueError for what is neither, and for a time without offset: it would mean another instant on each host.
    """
    if start in ("earliest", "latest"):
        return None
    time = datetime.fromisoformat(start)
    if time.tzinfo is None:
        raise ValueError("a time needs its offset, e.g. Z or +01:00")
    return int(time.timestamp() * 1000)
