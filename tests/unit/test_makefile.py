"""What `make setup` leaves out on a machine without a GPU."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PINS = ROOT / "requirements-dev.txt"


def blocks(text: str) -> dict[str, tuple[str, set[str]]]:
    """Each pinned package: its lines, and by what it is needed."""
    found = {}
    for block in re.split(r"\n(?=[a-z0-9])", "\n" + text)[1:]:
        name = block.split("==")[0]
        via = set(re.findall(r"^    #   ([a-z0-9][a-z0-9-]*)", block.replace("# via ", "#   "), re.MULTILINE))
        found[name] = block.strip(), via
    return found


def test_without_a_gpu_nothing_of_cuda_is_installed_and_all_else_is() -> None:
    """The CPU build of torch takes torch's place; what only torch's GPU build needs goes with it."""
    (program,) = re.findall(r"awk '(.+)' requirements-dev\.txt", (ROOT / "Makefile").read_text())
    kept = subprocess.run(
        ["awk", program.replace("$$", "$"), PINS], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    everything, left = blocks(PINS.read_text()), blocks(kept)
    gone = everything.keys() - left.keys()
    assert {"torch", "triton", "nvidia-cublas", "cuda-toolkit"} <= gone
    assert all(left[name] == everything[name] for name in left)
    for name, (lines, via) in everything.items():
        needed_by_gpu_alone = bool(via) and via <= gone and "sys_platform == 'linux'" in lines.splitlines()[0]
        assert needed_by_gpu_alone == (name in gone - {"torch"}), name
