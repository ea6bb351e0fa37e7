"""Errors of the message bus."""

from __future__ import annotations

from core.errors import FairmarkError


class BrokerError(FairmarkError):
    """Base of the bus's errors."""

    code = "broker"


class BrokerUnavailableError(BrokerError):
    """The broker cannot be reached, or did not confirm a publication in time. The message may or may not be there."""

    code = "broker_unavailable"


class MalformedMessageError(BrokerError):
    """Bytes that are not a message of a version we know. The delivery goes to the dead letters."""

    code = "malformed_message"


class UnroutableError(BrokerError):
    """No queue is bound to the topic: nobody would ever see the message."""

    code = "unroutable"


class TopologyError(BrokerError):
    """The broker refuses an exchange or queue: it exists with other arguments, or we may not touch it."""

    code = "broker_topology"
