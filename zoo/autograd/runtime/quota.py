"""How many cores a container may use: its control group's quota of processor time (Linux; cgroups version 2 and 1)."""

from __future__ import annotations

from pathlib import Path

CGROUP, MOUNTED = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores(cgroup: Path = CGROUP, mounted: Path = MOUNTED) -> int:
    """The whole cores that the tightest quota grants, at least 1; 0 where there is none."""
    try:
        lines = [line.split(":", 2) for line in cgroup.read_text().splitlines()]
    except OSError:
        return 0
    quotas = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if not controllers:  # version 2: one tree, and a group is bound by those above it too
            folders, read = [mounted], _version_2
        elif "cpu" in controllers.split(","):
            folders, read = [mounted / controllers, mounted / "cpu"], _version_1
        else:
            continue
        for folder in folders:
            group = folder / path.lstrip("/")
            quotas += [read(place) for place in (group, *group.parents) if place == folder or folder in place.parents]
    granted = [cores for cores in quotas if cores]
    return max(1, int(min(granted))) if granted else 0


def _version_2(group: Path) -> float:
    quota, _, period = _text(group / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else 0


def _version_1(group: Path) -> float:
    quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else 0  # -1: no quota


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
