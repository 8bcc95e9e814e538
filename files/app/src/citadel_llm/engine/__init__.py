"""What an engine's unit needs around the engine: checks before it starts, and the proof that it serves."""
