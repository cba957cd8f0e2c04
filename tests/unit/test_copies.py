"""Copies to a device: on a CPU there is none, and where memory can't be pinned they go the plain way."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from streamer.inference.backends import copies


def test_on_a_cpu_nothing_is_copied() -> None:
    """What the network reads is the array itself, and what it gives is read in place."""
    given = np.arange(6).reshape(2, 3)
    there = copies.to_device(given, torch.device("cpu"))
    assert there.data_ptr() == given.ctypes.data
    back = copies.to_host(there)
    assert back.ctypes.data == given.ctypes.data


@pytest.mark.skipif(torch.cuda.is_available(), reason="memory can be pinned here")
def test_where_memory_can_not_be_pinned_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Torch without a GPU refuses it."""
    monkeypatch.setattr(copies, "_pins", True)
    with caplog.at_level(logging.WARNING):
        assert [copies._pinned(torch.zeros(2)) for _ in range(2)] == [None, None]
    assert len(caplog.records) == 1
