"""Which back end serves a request: what is known of each, and how one is chosen. Nothing here does I/O."""
