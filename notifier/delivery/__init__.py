"""One notification from taken to settled: `delivery.py` is the page to read first."""
