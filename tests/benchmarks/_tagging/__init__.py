"""The parts of `make bench-tagging`: each module has `figures(data)`, dicts of figures beside their bars."""
