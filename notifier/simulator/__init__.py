"""Merchants that behave as scripted, for trying things out and for tests. Nothing of the service uses this."""

from notifier.simulator.received import Received, SignatureState
from notifier.simulator.script import Script, Word
from notifier.simulator.server import Simulator

__all__ = ["Received", "Script", "SignatureState", "Simulator", "Word"]
