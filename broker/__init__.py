"""The message bus between aggregators and fetchers: one small interface, an in-process and a RabbitMQ implementation.

bus.publish(Topic.JOBS, job)      every queue bound to the topic gets a copy
bus.subscribe(Topic.JOBS, "fetcher-a", handler)   consumers of one queue share its messages
"""

from broker.bus import Bus, Handler, Rejected, Subscription, Topic
from broker.messages import Hint, Job, Message, Refusal, Report

__all__ = [
    "Bus",
    "Handler",
    "Hint",
    "Job",
    "Message",
    "Refusal",
    "Rejected",
    "Report",
    "Subscription",
    "Topic",
]
