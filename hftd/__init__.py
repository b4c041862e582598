"""hftd: a low-latency trading daemon whose hot path is machine code and whose source is Python."""

__version__ = "0.1.0"
