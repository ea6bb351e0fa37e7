"""What stands on the broker: names, arguments, and their declaration.

{ns}.{topic}           durable topic exchange; each subscriber's queue is bound to all of it
{ns}.{topic}.{queue}   quorum queue; or, for an instance's own queue, a classic one that expires unused
{ns}.dead              where rejected, undeliverable, expired and surplus messages end: fanout exchange, quorum queue
"""

from __future__ import annotations

from broker.bus import Topic
from broker.delivery import MAX_DELIVERIES
from broker.link import Channel

MAX_QUEUE = 10_000  # messages; beyond it the oldest goes to the dead letters
DEAD_TTL_MS = 7 * 24 * 3600 * 1000
EXCLUSIVE_EXPIRES_MS = 60_000  # an instance's own queue outlives a short loss of connection


def exchange_name(namespace: str, topic: Topic) -> str:
    return f"{namespace}.{topic}"


def queue_name(namespace: str, topic: Topic, queue: str) -> str:
    return f"{namespace}.{topic}.{queue}"


def dead_name(namespace: str) -> str:
    return f"{namespace}.dead"


async def declare_exchanges(channel: Channel, namespace: str) -> None:
    """The exchanges, and the dead letters' queue. Raises `TopologyError` or `BrokerUnavailableError`."""
    raw, dead = channel.raw, dead_name(namespace)
    for topic in Topic:
        await channel.call(
            raw.exchange_declare, exchange=exchange_name(namespace, topic), exchange_type="topic", durable=True
        )
    await channel.call(raw.exchange_declare, exchange=dead, exchange_type="fanout", durable=True)
    await channel.call(
        raw.queue_declare,
        queue=dead,
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            "x-max-length": MAX_QUEUE,
            "x-overflow": "drop-head",
            "x-message-ttl": DEAD_TTL_MS,
        },
    )
    await channel.call(raw.queue_bind, queue=dead, exchange=dead, routing_key="")


async def declare_queue(channel: Channel, namespace: str, topic: Topic, name: str, *, exclusive: bool) -> None:
    """Queue `name`, bound to `topic`. Raises `TopologyError` or `BrokerUnavailableError`.

    An instance's own queue is not AMQP-exclusive: after a reconnection the broker may still believe in the old
    connection for a while, and would lock the new one out.
    """
    arguments: dict[str, object] = {
        "x-max-length": MAX_QUEUE,
        "x-overflow": "drop-head",
        "x-dead-letter-exchange": dead_name(namespace),
    }
    if exclusive:
        arguments |= {"x-queue-type": "classic", "x-expires": EXCLUSIVE_EXPIRES_MS}
    else:
        arguments |= {"x-queue-type": "quorum", "x-delivery-limit": MAX_DELIVERIES - 1}
    await channel.call(channel.raw.queue_declare, queue=name, durable=True, arguments=arguments)
    await channel.call(channel.raw.queue_bind, queue=name, exchange=exchange_name(namespace, topic), routing_key="#")
