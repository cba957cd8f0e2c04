"""Reads the reports topic into a fold, as a read_committed reader sees it."""

from __future__ import annotations

from collections.abc import Collection

from streamer.config.fields import KafkaConfig
from streamer.core.health.windows.fold import Fold
from streamer.core.report import read
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.scan import Scan


def read_since(kafka: KafkaConfig, topic: str, since_ms: int, fold: Fold, pipelines: Collection[str] = ()) -> set[str]:
    """Fold the reports that were written then or later, up to the end found now, of these pipelines or of all; returns
    the names of all pipelines that there are reports of.

    Raises ConfigurationError for a missing topic or right, DependencyError when the cluster does not answer.
    """
    offsets = GroupOffsets(kafka)
    starts = {place[1]: at for place, at in offsets.at_time(offsets.partitions([topic]), since_ms).items()}
    found = set()
    with Scan(kafka, topic, starts=starts) as scan:
        # A partition without a record of that time or later has nothing to read.
        scan.starts |= {partition: end for partition, end in scan.ends.items() if partition not in starts}
        for batch in scan.batches():
            for record in batch:
                report = read(record.value())
                if report is None:
                    continue
                found.add(report.pipeline)
                if not pipelines or report.pipeline in pipelines:
                    fold.add(report)
        fold.upto |= {f"{topic}/{partition}": end for partition, end in scan.ends.items()}
    return found
