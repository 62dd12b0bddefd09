"""``python -m tools.real_parts [NAME …]``: one line a part, its name and where it is; without a name, the names there are."""

from __future__ import annotations

import sys

from tools.real_parts.install import GROUPS, PARTS, PartUnavailableError


def main(names: list[str]) -> int:
    """Exit status 0: all are there; 1: one could not be had; 2: no such part."""
    if unknown := [name for name in names if name not in PARTS and name not in GROUPS]:
        print(f"no such part: {', '.join(unknown)}: there are {', '.join((*PARTS, *GROUPS))}", file=sys.stderr)
        return 2
    if not names:
        print("\n".join((*PARTS, *(f"{group}: {' '.join(parts)}" for group, parts in GROUPS.items()))))
    for part in dict.fromkeys(part for name in names for part in GROUPS.get(name, (name,))):
        try:
            print(f"{part}\t{PARTS[part]()}", flush=True)
        except PartUnavailableError as error:
            print(f"{part}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
