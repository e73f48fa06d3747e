"""Processes that are started, watched, restarted and stopped, and the pipe to each of them.

Everything here is blind to what the processes do: keys, boot state and sentences are opaque.
The master's side is `Master` (the set) and `Slot` (one child); the child's side is `Parent`.
"""
