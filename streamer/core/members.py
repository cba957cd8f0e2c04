"""Who is in a group: a member of streamer's says in its client.id where its results go.

Two pipelines in one group each get a part of the records. Where both write to one topic that is how replicas share the
work; where they do not, it is a configuration that was copied.
"""

from __future__ import annotations

from typing import Final

CLIENT: Final = "streamer"


def client_of(output: str) -> str:
    """The client.id of a pipeline's member, unless the configuration gives another."""
    return f"{CLIENT}.{output}"


def output_of(client: str) -> str:
    """Where the member of this client.id writes; "" where it does not say."""
    return client.removeprefix(f"{CLIENT}.") if client.startswith(f"{CLIENT}.") else ""


def slot_of(base: str, member: int) -> str:
    """The slot of one of several members of a replica on one machine, from 1; 0 is the only one. The first has the
    replica's own, so that it finds its partitions when others join it."""
    return f"{base}.{member}" if member > 1 else base


def is_stranger(client: str, ours: str) -> bool:
    """Whether a member of this client.id is not streamer's, as far as a member of the client.id `ours` can tell: where
    the configuration gives one of its own, replicas may each have another."""
    return bool(output_of(ours)) and not client.startswith(CLIENT)
