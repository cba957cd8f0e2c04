"""Writes what `streamer load` loads, and how far it is: both in one transaction."""

from __future__ import annotations

from streamer.kafka.group_copier import GroupCopier


class LoadCopier(GroupCopier):
    """Under a transactional id of the group's name: of two loads of one job the later one ends the earlier one's."""

    prefix = ""
    taken_over = (
        "another `streamer load` of this job ({}) is running; what this one loaded stays loaded. Let the other one"
        " finish"
    )
