"""Rules on who answers in place of a service that does not: another program, with or without TLS, or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from streamer.core.surroundings import PeerInfo


@dataclass(frozen=True, slots=True)
class Expected:
    """What was asked for: what it `speaks`, whether over `tls`, the setting that has its address, and how to ask for it
    with TLS, without, and with a certificate that is not known."""

    speaks: str
    tls: bool
    setting: str
    with_tls: str
    without_tls: str
    trust: str
    login: bool = False
    with_login: str = ""


_PROGRAMS: Final = {"Kafka": "a Kafka broker", "Redis": "a Redis", "HTTP": "an HTTP server"}


def explain(peers: Sequence[PeerInfo], expected: Expected) -> tuple[str, str] | None:
    """Why none of these serves, and the fix; None where nothing of what was seen explains it."""
    peer = next((one for one in peers if one.resolves and not one.refusal), peers[0] if peers else None)
    if peer is None:
        return None
    correct = f"correct {expected.setting}"
    if not peer.resolves:
        name = peer.address.rpartition(":")[0]
        return f"the name {name} does not resolve on this machine", f"{correct}, or let this machine's DNS know it"
    if peer.refusal:
        return f"nobody takes connections at {peer.address} ({peer.refusal})", f"start it, or {correct}"
    if peer.speaks and peer.speaks != expected.speaks:
        return f"{_PROGRAMS[peer.speaks]} answers at {peer.address}, not {_PROGRAMS[expected.speaks]}", correct
    if peer.tls and not expected.tls:
        return f"what answers at {peer.address} speaks TLS", expected.with_tls
    if expected.tls and peer.speaks and not peer.tls:
        return f"what answers at {peer.address} does not speak TLS", expected.without_tls
    if peer.certificate and expected.trust:
        return f"its certificate is not trusted here ({peer.certificate})", expected.trust
    if peer.mechanisms and not expected.login and expected.with_login:
        return f"it asks for a login ({', '.join(peer.mechanisms)})", expected.with_login
    if not peer.speaks and not peer.tls:  # over TLS it may be silent because it wants a certificate of ours
        what = (
            f"something takes connections at {peer.address}, and does not answer as {_PROGRAMS[expected.speaks]} does"
        )
        return what, f"look at what listens there, or {correct}"
    return None
