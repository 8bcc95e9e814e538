"""Prepares the lab's model: SmolLM2-135M-Instruct, converted once and cached."""
