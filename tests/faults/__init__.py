"""Faults, injected into a real service under load, and what became of the promises: a product of its own.

    make faults          every fault, at least ten times; the table goes into docs/reliability.md
    make faults-check    with bugs planted one at a time: the suite must fail on each
    make test            a few faults, once

Who does what: `service` is the service under test, `broker` and `line` are what it stands on, `load` sends and
remembers, `merchants` (a process) and `receiver` log what came, `field` holds them together, `bout` repeats a fault
under load, `verdict` judges (pure, with tests of its own), `report` writes the rows, `kept` keeps the evidence of each
(`--evidence DIR`) for `python -m tests.faults.judge_again DIR`. `around` makes what only some
faults need: a small disk, a PostgreSQL, `notifier simulate`, and a world (`world/`) in which clocks and name servers
are the test's.

To add a fault:

1. Write a function `async (field: Field, number: int) -> Window` in the `of_….py` file of its kind, or in a new one. It
   injects the fault, *asserts that it bit* (`DidNotBite` otherwise: a log line, a moment, a count that only the fault
   explains), ends it, and returns when it struck: `Window(began, ended, restored)` in Unix milliseconds. What was in
   flight between began and ended may be doubled; for a sudden death both are the same moment. Where it lasts longer
   than what it breaks, `spans` says when something was really broken.
2. Add a line to `table.FAULTS`, with what it needs (a line that can be harmed, the API, settings of its own, another
   number of repeats).
3. `python -m tests.faults --only NAME --repeats 3`, and once with the fault taken out of the function: it must fail.

The load is steady while a fault strikes, and `bout` waits until everything is on time before the next repeat. A fault
that needs more names a context manager of `around`, which is where to add one; one that needs merchants of another kind
adds the kind to `merchants` and to `load._ATTEMPTS`.
"""
