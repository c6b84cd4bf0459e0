"""Whole runs against programs of others that have to be built first: `make test-peers`. Not part of `make test`."""
