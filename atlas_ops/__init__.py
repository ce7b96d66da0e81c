"""Take the big tables of a live PostgreSQL database to monthly partitions, from notebooks."""

__version__ = "0.1.0"
