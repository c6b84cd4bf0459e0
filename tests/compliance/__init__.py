"""OTLP to the letter: each rule of the specification, and the tests that pass it by each protocol."""
