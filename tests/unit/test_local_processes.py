"""Ports, the identity of processes, and the record of what was left running."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from streamer.local import background
from streamer.local.kafka import live_brokers
from streamer.local.lock import file_lock
from streamer.local.ports import LOOPBACK, free_ports, port_is_free
from streamer.local.watchdog import remove_folders, started_at

LENT_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_free_ports_differ_and_are_free() -> None:
    """Several servers started at once get ports of their own."""
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert all(port_is_free(port) for port in ports)


def test_adjacent_ports_follow_one_another() -> None:
    """A cluster's brokers can be named by the first one's port."""
    first, second, third = free_ports(3, adjacent=True)
    assert (second, third) == (first + 1, first + 2)


@pytest.mark.skipif(not LENT_PORTS.exists(), reason="only Linux says which ports it lends")
def test_free_ports_are_not_lent_to_outgoing_connections() -> None:
    """No client that dials a stopped server can be lent the server's port."""
    lowest_lent = int(LENT_PORTS.read_text().split()[0])
    assert max(free_ports(50)) < lowest_lent


def test_port_with_a_listener_is_not_free() -> None:
    """A port is not free while another program listens on it."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        assert not port_is_free(listener.getsockname()[1])


def test_live_brokers_of_a_closed_port_is_an_os_error() -> None:
    """Nobody listening is told apart from an empty cluster."""
    (port,) = free_ports(1)
    with pytest.raises(OSError):
        live_brokers(port)


def test_started_at_tells_running_from_ended() -> None:
    """A process has a start while it runs and none once it has ended, reaped or not."""
    with subprocess.Popen(["sleep", "60"]) as child:
        assert started_at(child.pid) == started_at(child.pid) is not None
        child.kill()
        while started_at(child.pid) is not None:
            pass
        child.wait()
        assert started_at(child.pid) is None


def test_remove_folders_spares_what_is_not_named(tmp_path: Path) -> None:
    """The folder that held the removed ones goes only if nothing else is in it."""
    for parent in ("shared", "own"):
        (tmp_path / parent / "kafka-1").mkdir(parents=True)
    (tmp_path / "shared" / "notes.txt").write_text("mine")
    remove_folders([tmp_path / "shared" / "kafka-1", tmp_path / "own" / "kafka-1"])
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["notes.txt"]
    assert not (tmp_path / "own").exists()


def test_lock_excludes_another_process(tmp_path: Path) -> None:
    """While one process holds a lock another waits for it, and gets it at the end."""
    lock = tmp_path / "some" / "lock"
    program = (
        "import sys, pathlib; from streamer.local.lock import file_lock\n"
        "print('asks', flush=True)\n"
        "with file_lock(pathlib.Path(sys.argv[1])): print('holds', flush=True)"
    )
    with file_lock(lock):
        other = subprocess.Popen([sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "asks\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.2)
    assert other.communicate(timeout=10)[0] == "holds\n"


def test_down_never_ends_a_process_that_only_has_the_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorded process number that now belongs to another process is left alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        log = tmp_path / "streamer" / "local" / "redis" / "redis.log"
        process = background.BackgroundProcess("redis", stranger.pid, "an earlier start", str(log))
        record = background.BackgroundStack("processes", {"redis": 1}, 1, str(log.parents[1]), [process])
        record_path = tmp_path / "streamer" / "local.json"
        record_path.parent.mkdir()
        record_path.write_bytes(msgspec.json.encode(record))
        assert background.down(keep_data=False) == record
        assert background.recorded() is None
        assert stranger.poll() is None
        stranger.kill()
