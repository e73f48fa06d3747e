"""RabbitMQ, and only here: what stands on it, the ways in and out, and a private node for development and tests."""

import logging

# What the client library would say of connections is said by `connection` and `node`, once, with what follows from it.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)
