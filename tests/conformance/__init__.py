"""What other projects wrote down about pages, and whether it holds here; ``docs/conformance.md`` is written from it."""
