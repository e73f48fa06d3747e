"""The user's own code in the tier processes, on the control line: handlers of named messages, hooks, schedules.

`extensions = ["package.module"]` in the settings; each module has a function `register(extension)`, which is called
once in every tier process with an `Extension` of its own. docs/extensions.md shows it at work.
"""

from notifier.extensions.extension import Control, Extension
from notifier.supervision.actions import Reply, Sender

__all__ = ["Control", "Extension", "Reply", "Sender"]
