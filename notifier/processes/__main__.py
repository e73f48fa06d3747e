"""`python -m notifier.processes`: how the master starts a child. Nobody types this."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from setproctitle import setproctitle

from notifier.errors import ChildFailed
from notifier.importing import for_good
from notifier.supervision.child import guard


def main(arguments: Sequence[str] | None = None) -> int:
    """Become the process that the arguments describe; returns its exit code."""
    guard()  # first: what follows imports for a while, and a master that is gone could not end it
    options = _parser().parse_args(arguments)
    setproctitle(f"notifier: {options.role} {options.tier or ''}".rstrip())
    sys.path.extend(options.import_from)
    try:
        return _become(options)
    except ChildFailed as error:
        sys.stderr.write(f"notifier: {options.slot} ends: {error}\n")
        return error.exit_code


def _become(options: argparse.Namespace) -> int:
    """Each role imports only what is its own, and after the guard and the title: imports are slow."""
    match options.role:
        case "agent":
            with for_good():
                from notifier.processes import agent

            return agent.main(options.slot, options.epoch, options.fd)
        case "api":
            with for_good():
                from notifier.processes import api

            return api.main(options.slot, options.epoch, options.fd)
        case _:
            with for_good():
                from notifier.processes import tier

            return tier.main(options.tier, options.partition, options.slot, options.epoch, options.fd)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m notifier.processes", description=__doc__)
    parser.add_argument("role", choices=["tier", "agent", "api"])
    parser.add_argument("--tier", help="of the role tier")
    parser.add_argument("--partition", type=int, help="of the tier, where it has several")
    parser.add_argument("--import-from", action="append", default=[], help="last place to look for modules")
    parser.add_argument("--slot", required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--fd", type=int, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
