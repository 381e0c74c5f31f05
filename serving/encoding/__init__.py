"""The one process of a host that turns words, pictures and sounds into vectors, and the workers' way to it.

worker: client → connection ⇄ (unix socket, protocol) ⇄ server → engine → library, decoding, lanes: the process
"""
