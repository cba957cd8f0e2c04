"""What `make setup` leaves out on a machine without a GPU, and `make test-fast` without time."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
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


def test_the_fast_tests_import_no_torch() -> None:
    """Its imports alone take seconds. What is left out does need it."""
    (pattern,) = re.findall(r"^LOADS_MODELS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    files = {
        path: re.search(pattern, path.read_text(), re.MULTILINE) for path in (ROOT / "tests/unit").glob("test_*.py")
    }
    fast = [f"tests.unit.{path.stem}" for path, needs in files.items() if not needs]
    assert 0.5 < len(fast) / len(files) < 0.9
    code = "import sys\nfor name in sys.argv[1:]:\n __import__(name)\nprint('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, *fast], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.stdout == "False\n", ran.stderr[-2000:]


def test_the_coverage_gate_names_files_that_exist() -> None:
    """One that has moved would be held to nothing."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["report"]
    assert [name for name in settings["include"] if not any(ROOT.glob(name))] == []
