"""What Kubernetes does with the chart's StatefulSet, done with processes: a rolling update, and scaling with it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections import defaultdict
from itertools import pairwise

import pytest

from tests.acceptance.harness import Lab, Outcome, Reader, Run, check, wait_for

pytestmark = pytest.mark.every_way

PODS, PARTITIONS = 3, 6
SESSION_S = 6  # the least that a broker takes where nothing else is said
START_S = 20.0  # for a start on a machine that has much to do; it takes two seconds


class StatefulSet:
    """Pods `web-0`, `web-1` … are members with these slots."""

    def __init__(self, lab: Lab, static: bool) -> None:
        self._lab = lab
        self._static = static
        self.pods: dict[int, Run] = {}

    def scale(self, pods: int) -> None:
        """As with podManagementPolicy Parallel: all that are too many end at once, all that lack start at once."""
        leaving = [self.pods.pop(ordinal) for ordinal in sorted(self.pods, reverse=True) if ordinal >= pods]
        for pod in leaving:
            pod.process.terminate()
        assert [pod.wait(30) for pod in leaving] == [0] * len(leaving)
        for ordinal in range(pods):
            if ordinal not in self.pods:
                self.pods[ordinal] = self._start(ordinal, "1")
        for pod in self.pods.values():
            wait_for(lambda pod=pod: ready(pod), "a pod that is ready", 60, run=pod)

    def update(self) -> None:
        """Each pod, the highest ordinal first: end it, start the new version, wait until it is ready."""
        for ordinal in sorted(self.pods, reverse=True):
            assert self.pods[ordinal].stop() == 0
            self.pods[ordinal] = pod = self._start(ordinal, "2")
            wait_for(lambda pod=pod: ready(pod), f"web-{ordinal} to be ready", 60, run=pod)

    def _start(self, ordinal: int, version: str) -> Run:
        path = self._lab.config(options={"text_us": 100, "cacheable": version == "2"}, static_membership=self._static)
        return self._lab.start(path, f"--set=pipelines.p.slot=web-{ordinal}")


def ready(pod: Run) -> bool:
    """What the readiness probe asks."""
    found = re.search(r'"address":"(127\.0\.0\.1:\d+)"', pod.log)
    if found is None:
        return False
    try:
        with urllib.request.urlopen(f"http://{found[1]}/readyz", timeout=5) as answer:
            return bool(json.load(answer)["ok"])
    except urllib.error.HTTPError as error:  # holds its socket
        error.close()
        return False


def everywhere(reader: Reader) -> None:
    """Wait for more outcomes of each partition: all have owners."""
    begun = reader.count
    wait_for(lambda: len({one.place.partition for one in reader.outcomes[begun:]}) == PARTITIONS, "all partitions")


def longest_pause_s(outcomes: list[Outcome]) -> float:
    """The longest time in which no outcome of a partition came, of all partitions."""
    times: dict[int, list[float]] = defaultdict(list)
    for outcome in outcomes:
        times[outcome.place.partition].append(outcome.at)
    return max(after - before for each in times.values() for before, after in pairwise(each))


@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_an_update_and_scaling_lose_repeat_and_reorder_nothing(lab: Lab, static: bool) -> None:
    """Under 2,000 events a second three pods are updated, two are scaled away and come back. Each event has one answer,
    in order; no partition stands still for longer than a start takes, and one whose pod went for good for longer than
    that and the session's time."""
    lab.topics(PARTITIONS)
    lab.telemetry["http"] = "127.0.0.1:0"
    lab.properties = {"session.timeout.ms": 1_000 * SESSION_S, "heartbeat.interval.ms": 1_000}
    reader = lab.reader()
    pods = StatefulSet(lab, static)
    pods.scale(PODS)
    with lab.flow():
        wait_for(lambda: reader.count >= 2_000, "the first outcomes")
        begun = reader.count
        pods.update()
        updated = reader.count
        pods.scale(1)
        everywhere(reader)
        pods.scale(PODS)
        everywhere(reader)
        scaled = reader.count
        wait_for(lambda: reader.count >= scaled + 2_000, "outcomes after all that")
    wait_for(lambda: reader.count >= len(lab.given), "all outcomes")
    assert [pod.stop() for pod in pods.pods.values()] == [0] * PODS
    anomalies = check(lab.given, reader.outcomes, lambda _: "")
    assert not anomalies, str(anomalies)
    assert updated - begun > 1_000, "too few were answered meanwhile to prove anything"
    assert scaled - updated > 1_000, "too few were answered meanwhile to prove anything"
    update, scaling = (longest_pause_s(reader.outcomes[a:b]) for a, b in ((begun, updated), (updated, None)))
    print(f"longest pauses: {update:.1f} s in the update, {scaling:.1f} s in scaling")
    assert update < START_S
    assert scaling < START_S + (SESSION_S if static else 0)
