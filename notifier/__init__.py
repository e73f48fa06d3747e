"""notifier: delayed, tiered notifications to merchants' servers, on RabbitMQ."""

__version__ = "0.1.0"
