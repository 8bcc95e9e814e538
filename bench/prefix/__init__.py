"""What the choice of an engine is worth to prefix caches, on two real engines."""
