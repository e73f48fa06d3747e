"""Hypothesis for all unit tests: no deadline per example, since a busy machine is not a failing test."""

from hypothesis import settings

settings.register_profile("notifier", deadline=None)
settings.load_profile("notifier")
