"""Mutated inputs against every parser: none may hang, grow or fail in a way that it does not declare."""
