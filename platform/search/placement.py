"""What a trial with several workers leaves behind where the process that waits for them is killed.

Ray keeps the placement group of a Ray Train run for as long as the job lives, that is the search, unless the run ends
by itself or a dashboard's service tells a watching process of its death (Ray 2.60). The next start of the trial, which
would wait for ever beside it, sets it free.
"""

from pathlib import Path

_FILE = ".placement-group"


def note_placement_group(folder: Path) -> None:
    """Write down which one this worker is in."""
    from ray.util import get_current_placement_group

    group = get_current_placement_group()
    if group is not None:
        (folder / _FILE).write_text(group.id.hex())


def forget_placement_group(folder: Path) -> None:
    (folder / _FILE).unlink(missing_ok=True)


def free_placement_group(folder: Path) -> None:
    """Of an earlier start of the trial, if it is of this job."""
    import ray
    from ray.util import placement_group_table, remove_placement_group
    from ray.util.placement_group import PlacementGroup

    if not (folder / _FILE).exists():
        return
    noted = (folder / _FILE).read_text()
    if noted in placement_group_table():
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(noted))))
    forget_placement_group(folder)
