"""The data plane: one process that serves OpenAI's API in front of engines, from one immutable snapshot.

It imports `telemetry` and `schema` and nothing else of the package, so that serving depends on nothing else.
"""
