"""HTTP/1.1 straight on asyncio's protocols: a server for clients and a pool of connections to engines.

Everything is driven by callbacks from the event loop: there is no task, no future and no queue in the path of
a request. httptools (llhttp in its strict mode) parses both sides; what it leaves open is refused here.
"""
