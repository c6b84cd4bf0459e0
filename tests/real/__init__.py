"""Whole runs against real servers: nothing of ours judges them."""
