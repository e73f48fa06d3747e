"""What ends a benchmark. A figure is printed only if every notification of its run arrived exactly once."""

from __future__ import annotations

from notifier.errors import ConfigurationError, NotifierError


class BenchmarkFailed(NotifierError):
    """A run did not do what it measures: something was lost, doubled or early, or a process died."""


class NoReceiver(ConfigurationError):
    """nginx, which counts the arrivals, is not installed or does not start."""


class NoPeers(ConfigurationError):
    """The virtual environment with the other task queues is not there."""
