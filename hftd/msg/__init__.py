"""The messages between processes: 64-byte records and the codes in them."""
