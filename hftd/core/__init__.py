"""Foundations without trading words: layouts, compiled functions, memory, atomics, clock, idling."""
