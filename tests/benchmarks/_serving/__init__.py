"""The parts of `make bench-serving`: its world, its peers, its clients, and one module for each table of figures.

world      sizes, files and requests of the benchmark's release; build and catalogue make them
null, textbook, tuned, peer      what the service is compared with, each a process of its own
processes, bench                 servers pinned to one core, and what the kernel says of them
client, loops, timer             load from the other core
latency, bare, overload, soak, cold      what is measured
"""
