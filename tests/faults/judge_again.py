"""Judge evidence that `python -m tests.faults --evidence DIR` has kept, by the judge as it is now.

    python -m tests.faults.judge_again DIR

Exit code 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.faults.kept import read
from tests.faults.verdict import judge


def judged_again(directory: Path) -> tuple[list[str], bool]:
    """What to print of each row, and whether all of them are good."""
    said, good = [], True
    for file in sorted(directory.glob("*.gz")):
        name, evidence = read(file)
        verdict = judge(evidence)
        good = good and verdict.good
        said.append(
            f"{name}: {'good' if verdict.good else 'FAILED'}: sent {verdict.sent}, lost {verdict.lost}, "
            f"early {verdict.early}, duplicated {verdict.duplicated}"
        )
        said += [f"    {violation}" for violation in verdict.violations]
    return said, good


def main() -> int:
    """Judge what is in a directory."""
    asked = argparse.ArgumentParser(prog="python -m tests.faults.judge_again", description=__doc__.splitlines()[0])
    asked.add_argument("directory", type=Path, help="with the evidence")
    said, good = judged_again(asked.parse_args().directory)
    print("\n".join(said) or "there is no evidence")
    return 0 if good and said else 1


if __name__ == "__main__":
    raise SystemExit(main())
