"""Every exception notifier raises on purpose. Each message is a sentence its reader can act on:
what is wrong, where, and what to do about it.

Exit codes (DESIGN §8): 1 failed, 2 usage, 78 configuration (EX_CONFIG of sysexits.h).
"""

from __future__ import annotations

from collections.abc import Mapping


class NotifierError(Exception):
    """Base of all errors that are told to the user as one sentence, without a traceback."""

    exit_code = 1


class ConfigurationError(NotifierError):
    """A setting is missing, unknown or contradicts the broker; starting again cannot help."""

    exit_code = 78


class InvalidInput(NotifierError, ValueError):
    """What was handed in cannot be accepted; nothing of it was sent."""


class InvalidTier(InvalidInput):
    """A tier is not a delay in whole seconds between 0s and 49 days."""


class InvalidLadder(InvalidInput):
    """A ladder is empty, holds a bad tier, or names a tier that is not configured."""


class InvalidNotification(InvalidInput):
    """A field of a notification is not acceptable (id, merchant, url, payload, step …)."""


class InvalidMerchant(InvalidInput):
    """Fields of a merchant are not acceptable. problems: for each field a sentence that says what is wrong."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(f"{name}: {said}" for name, said in self.problems.items()))


class InvalidSecret(InvalidInput):
    """A signing secret is not `whsec_` followed by base64 of 24 to 64 bytes."""


class InvalidSignature(InvalidInput):
    """A webhook's signature does not verify; the message says which check failed."""


class UnreadableMessage(NotifierError):
    """A message on the wire cannot be read as a notification; it goes to the poison queue."""


class BrokerError(NotifierError):
    """RabbitMQ did not do what was asked."""


class BrokerUnreachable(BrokerError):
    """No address of the broker could be connected to within the time allowed."""


class Unroutable(BrokerError):
    """A mandatory publish found no queue: the topology is missing or was deleted."""


class PublishRefused(BrokerError):
    """The broker answered a publish with a negative confirm (a queue at its length limit)."""


class MessageTooLarge(BrokerError):
    """The broker takes no message of this size; publishing it again cannot help."""


class TopologyConflict(ConfigurationError):
    """A queue or exchange exists with other arguments than notifier's constants."""


class DelayMechanismMissing(ConfigurationError):
    """`delay = "plugin"`, but this broker does not offer the x-delayed-message exchange."""


class HashingMissing(ConfigurationError):
    """There are several partitions, but this broker does not offer the x-consistent-hash exchange."""


class OtherPartitions(ConfigurationError):
    """The namespace has another number of partitions than the settings."""


class NoBroker(ConfigurationError):
    """No RabbitMQ could be had on this machine (no URL, no installed server)."""

    @classmethod
    def named(cls) -> NoBroker:
        """For the commands that never start a broker themselves: NOTIFIER_AMQP_URL is missing."""
        return cls(
            "NOTIFIER_AMQP_URL is not set, so there is no RabbitMQ to talk to. There are two ways on:\n"
            "  yours:  export NOTIFIER_AMQP_URL=amqp://user:password@host:5672/   (several, comma-separated)\n"
            "  a private one on this machine:  make broker   (starts it and prints the export line; "
            "`notifier dev` needs neither)"
        )


class EgressRefused(NotifierError):
    """The address of a callback is not globally reachable and not let through by the settings."""


class CallWithheld(NotifierError):
    """The merchant was blocked before anything of this attempt was sent; there was no attempt."""


class ChildFailed(NotifierError):
    """A child process could not be started or broke the protocol of its pipe."""


class BadFrame(ChildFailed):
    """What came over a pipe, or should go over it, is no message: too long, cut short, not JSON, of no known shape."""


class PeerGone(ChildFailed):
    """The process at the other end of the pipe is gone: nothing can be said to it any more."""


class PeerBusy(ChildFailed):
    """The process at the other end of the pipe does not read; what waits for it has reached its bound."""


class NoAnswer(ChildFailed):
    """The process at the other end of the pipe did not answer a request in time."""


class RequestFailed(ChildFailed):
    """The process at the other end of the pipe answered a request with this sentence instead of a result."""


class BadState(ChildFailed):
    """A process could not bring itself to the desired state; the message is its own sentence."""


class BadAddress(InvalidInput):
    """A control message names nobody, or somebody who is not there."""


class AlreadyRunning(NotifierError):
    """Another master is alive in this runtime directory."""


class BadRuntimeDirectory(ConfigurationError):
    """The runtime directory cannot be used: it is missing, another's, open to others, or its path is too long."""


class NoMaster(NotifierError):
    """No master listens in this runtime directory, or it may not be talked to."""


class DatabaseUnavailable(NotifierError):
    """The ledger's database cannot be reached or cannot write now; the message says which and why. Try again."""


class DatabaseMismatch(ConfigurationError):
    """The database was made by another version of notifier, or is not a ledger at all."""


class RegistryUnreadable(NotifierError):
    """This machine's copy of the merchants cannot be read now, is not there yet, or is older than it has to be."""


class NotFound(NotifierError):
    """There is no such notification, merchant, replay or token."""


class Conflict(NotifierError):
    """What is asked for does not fit what there is now; the message says what to do instead."""
