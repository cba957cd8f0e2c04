"""Who holds which slot on this host, in real directories and with real locks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from streamer.errors import ConfigurationError
from streamer.kafka.slots import SlotTakenError, take_slot

HOST = socket.gethostname()


def place_in(folder: Path) -> Path:
    return folder / f"streamer-slots-{os.geteuid()}"


def test_each_takes_the_lowest_that_is_free(tmp_path: Path) -> None:
    """Of one group; what is given back, or was held by a process that is gone, is taken again."""
    places = [str(tmp_path)]
    first, second = take_slot("g", places=places), take_slot("g", places=places)
    assert (first.name, second.name) == (f"{HOST}-0", f"{HOST}-1")
    assert take_slot("other", places=places).name == f"{HOST}-0"
    first.release()
    assert take_slot("g", places=places).name == f"{HOST}-0"
    assert place_in(tmp_path).stat().st_mode & 0o777 == 0o700


@pytest.mark.case(80)
def test_the_environment_moves_no_slot() -> None:
    """Two members of one user, with and without a runtime directory, or with one that is not there, know of one
    another."""
    script = (
        "import sys; from streamer.kafka.slots import take_slot\n"
        "slot = take_slot(sys.argv[1]); print(slot.name, flush=True); sys.stdin.read()"
    )
    names = []
    held = []
    bare = {name: value for name, value in os.environ.items() if name not in ("XDG_RUNTIME_DIR", "TMPDIR")}
    with tempfile.TemporaryDirectory() as folder:
        for given in ({}, {"XDG_RUNTIME_DIR": folder}, {"XDG_RUNTIME_DIR": "/none/of/these"}, {"TMPDIR": folder}):
            command = [sys.executable, "-c", script, f"a/b {os.getpid()}"]
            one = subprocess.Popen(command, env=bare | given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            held.append(one)
            assert one.stdout
            names.append(one.stdout.readline().strip())
        for one in held:
            one.communicate(timeout=30)
    assert names == [f"{HOST}-{n}" for n in range(4)]


@pytest.mark.case(80)
def test_a_slot_that_was_asked_for_is_the_one_that_was_chosen(tmp_path: Path) -> None:
    """`slot = "HOST-0"` and the first free one are one slot, with one transactional id."""
    places = [str(tmp_path)]
    held = take_slot("g", places=places)
    with pytest.raises(SlotTakenError, match="is held by another process"):
        take_slot("g", held.name, places=places)
    held.release()
    wanted = take_slot("g", f"{HOST}-0", places=places)
    assert take_slot("g", places=places).name == f"{HOST}-1"
    wanted.release()


@pytest.mark.case(80)
@pytest.mark.parametrize("group", ["a/b", "..", ".", "../../etc", "ü" * 200, "a b\nc", "-", "a" * 200])
def test_any_group_has_a_file_of_its_own(tmp_path: Path, group: str) -> None:
    """Nothing is made outside of the directory, and no two groups share a lock."""
    places = [str(tmp_path)]
    held = take_slot(group, "s", places=places)
    with pytest.raises(SlotTakenError):
        take_slot(group, "s", places=places)
    assert take_slot(f"{group}.", "s", places=places).name == "s"
    assert take_slot(group.replace("/", "_"), "t", places=places).name == "t"
    assert [path.name for path in tmp_path.iterdir()] == [place_in(tmp_path).name]
    held.release()


def test_names_that_read_alike_are_not_alike(tmp_path: Path) -> None:
    """The group `a.b` with slot `c`, and `a` with `b.c`; `a/b` and `a_b`."""
    places = [str(tmp_path)]
    pairs = [("a.b", "c"), ("a", "b.c"), ("a/b", "c"), ("a_b", "c")]
    held = [take_slot(*pair, places=places) for pair in pairs]
    assert len(held) == len(list(place_in(tmp_path).iterdir()))


@pytest.mark.case(80)
def test_a_place_that_is_not_this_users_alone(tmp_path: Path) -> None:
    """A link, a file, or a directory that others may use is refused in words with a fix; a link among the locks, too.
    What it points to is not touched."""
    place, elsewhere = place_in(tmp_path), tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)

    def refused(match: str) -> None:
        with pytest.raises(ConfigurationError, match=match) as caught:
            take_slot("g", "s", places=[str(tmp_path)])
        assert str(tmp_path) in str(caught.value) and ";" in str(caught.value)

    place.symlink_to(elsewhere)
    refused("can't keep the lock")
    place.unlink()
    place.write_text("")
    refused("can't keep the lock")
    place.unlink()
    place.mkdir()
    place.chmod(0o777)
    refused("its mode is 0777; run `chmod 700")
    place.chmod(0o700)
    take_slot("g", "s", places=[str(tmp_path)]).release()
    (lock,) = place.iterdir()
    lock.unlink()
    lock.symlink_to(elsewhere / "made")
    refused("can't keep the lock")
    assert not list(elsewhere.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_a_place_of_another_user(tmp_path: Path) -> None:
    """Made before us by somebody else: it is named with its owner."""
    place_in(tmp_path).mkdir(mode=0o700)
    os.chown(place_in(tmp_path), 12345, -1)
    with pytest.raises(ConfigurationError, match=r"belongs to another user \(12345\)"):
        take_slot("g", places=[str(tmp_path)])


@pytest.mark.case(80)
def test_places_that_are_not_there(tmp_path: Path) -> None:
    """The next one is taken; where there is none, that is said."""
    (tmp_path / "file").write_text("")
    bad = [str(tmp_path / "none"), str(tmp_path / "file")]
    assert take_slot("g", places=[*bad, str(tmp_path)]).name == f"{HOST}-0"
    with pytest.raises(ConfigurationError, match="can be written"):
        take_slot("g", places=bad)


@pytest.mark.case(80)
def test_one_place_in_common_is_enough(tmp_path: Path) -> None:
    """A service with a /tmp of its own, and a lock that somebody removed: the other place still tells."""
    private, shared = str(tmp_path / "private"), str(tmp_path / "shared")
    for place in (private, shared):
        Path(place).mkdir()
    first = take_slot("g", places=[private, shared])
    assert take_slot("g", places=[shared]).name == f"{HOST}-1"
    for lock in place_in(Path(shared)).iterdir():
        lock.unlink()
    assert take_slot("g", places=[private, shared]).name == f"{HOST}-1"
    first.release()
    assert take_slot("g", places=[private, shared]).name == f"{HOST}-0"
