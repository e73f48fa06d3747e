"""RabbitMQ, and only here: what stands on it, the ways in and out, and a private node for development and tests."""
