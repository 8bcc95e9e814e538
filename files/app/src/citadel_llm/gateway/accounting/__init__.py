"""What is kept of each request: tokens, usage events, traces."""
