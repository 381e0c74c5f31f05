"""The parts of `make bench-tagging`."""
