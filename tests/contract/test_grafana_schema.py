"""The dashboard has the types of Grafana's own schema, as the compiler of TypeScript judges."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.telemetry.dashboards import dashboard
from tests.unit.test_compose import SERVICES

pytestmark = pytest.mark.every_way  # fetches two packages

GRAFANA = SERVICES["grafana"]["image"].rpartition(":")[2]
TYPESCRIPT = "5.9.3"
TYPES = "./node_modules/@grafana/schema/dist/types/raw/dashboard/x/types.gen"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiler, and with the schema of the Grafana that docker-compose.yml starts."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm")
    made = tmp_path_factory.mktemp("grafana")
    (made / "package.json").write_text("{}")
    packages = (f"typescript@{TYPESCRIPT}", f"@grafana/schema@{GRAFANA}")
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
    subprocess.run([npm, "install", *quiet, *packages], cwd=made, check=True, capture_output=True, timeout=300)
    return made


def constants(made: dict[str, Any]) -> Iterator[str]:
    """Each part as a constant of its type: as one, a panel might be of any of several types."""
    yield f"import type {{ Dashboard, Panel, RowPanel }} from '{TYPES}';"
    whole = {key: value for key, value in made.items() if key != "panels"}
    yield f"export const whole: Omit<Dashboard, 'panels'> = {json.dumps(whole)};"
    for number, panel in enumerate(made["panels"]):
        kind = "RowPanel" if panel["type"] == "row" else "Panel"
        yield f"export const panel{number}: Partial<{kind}> = {json.dumps(panel)};"


def complaints(folder: Path, made: dict[str, Any]) -> str:
    """What the compiler says of a dashboard."""
    (folder / "dashboard.ts").write_text("\n".join(constants(made)))
    compiler = [str(folder / "node_modules" / ".bin" / "tsc"), "--noEmit", "--strict", "--skipLibCheck"]
    options = ["--module", "esnext", "--moduleResolution", "bundler", "dashboard.ts"]
    return subprocess.run([*compiler, *options], cwd=folder, capture_output=True, text=True, timeout=300).stdout


def test_the_dashboard_is_of_grafanas_types(folder: Path) -> None:
    assert complaints(folder, dashboard()) == ""


def test_a_field_of_another_name_or_type_is_found(folder: Path) -> None:
    renamed, mistyped = dashboard(), dashboard()
    renamed["panels"][1]["gridPosition"] = renamed["panels"][1].pop("gridPos")
    mistyped["graphTooltip"] = "crosshair"
    assert "gridPosition" in complaints(folder, renamed)
    assert "DashboardCursorSync" in complaints(folder, mistyped)
