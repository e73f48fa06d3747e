"""`notifier ctl`: a running service, as an operator sees and steers it. The verbs are in the files beside this one."""

from __future__ import annotations

from typing import Annotated

import typer

from notifier.cli import ctl_block, ctl_events, ctl_fleet, ctl_look, ctl_processes, ctl_rest, ctl_state, ctl_watch

app = typer.Typer(add_completion=False)


@app.callback()
def group(
    context: typer.Context,
    fleet: Annotated[
        bool, typer.Option("--fleet", help=f"On every machine of the namespace: {', '.join(ctl_fleet.VERBS)}.")
    ] = False,
) -> None:
    """Look at a running service and steer it, over the control socket in its runtime directory.

    TIER is 5s or tier:5s, or all. Only the user who runs the service, and root, may do this; each deed is in the log.
    What is set here outlives the processes and the master, and ends with `resume`, `unblock`, `default` or --for.

    Exit code: 0 only if every process addressed did it; 1 otherwise, with those that did not on stderr.
    """
    if fleet and context.invoked_subcommand not in ctl_fleet.VERBS:
        raise typer.BadParameter(
            f"{context.invoked_subcommand} is not for all machines at once; what is: {', '.join(ctl_fleet.VERBS)}",
            param_hint="--fleet",
        )
    context.obj = fleet


_VERBS = (
    ("status", ctl_look.status, "what is wrong, all processes, what operators have set"),
    ("stats", ctl_watch.stats, "how much each process does"),
    ("ping", ctl_look.ping, "whether the master answers"),
    ("inflight", ctl_look.inflight, "which notifications a tier works on, since when, to where"),
    ("stacks", ctl_look.stacks, "where processes stand just now"),
    ("events", ctl_events.events, "what happens, as it happens"),
    ("pause", ctl_state.pause, "let a tier take no more notifications"),
    ("resume", ctl_state.resume, "take a pause back"),
    ("block", ctl_block.block, "call a merchant no more"),
    ("unblock", ctl_block.unblock, "take a block back"),
    ("close", ctl_rest.close, "call a merchant again that is given a rest"),
    ("set", ctl_state.set_, "prefetch, concurrency or rate of a tier"),
    ("log-level", ctl_state.log_level, "how much processes log"),
    ("drain", ctl_processes.drain, "let processes finish and stay away"),
    ("restart", ctl_processes.restart, "restart processes, one at a time"),
    ("reload", ctl_processes.reload, "read the settings again"),
    ("shutdown", ctl_processes.shutdown, "stop the service"),
    ("fleet", ctl_fleet.fleet, "the machines of this namespace"),
    ("send", ctl_processes.send, "send a named action to processes"),
)

for _name, _verb, _short in _VERBS:
    app.command(_name, short_help=_short)(_verb)
