"""How fast and how punctual notifier is on this machine, beside a bare loop that does nothing but deliver.

`python -m benchmarks`, explained in docs/benchmarks.md. Everything is counted by the receiver, never by the sender.
"""
