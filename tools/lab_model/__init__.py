"""Prepares the lab's models: SmolLM2-135M-Instruct, converted, and all-MiniLM-L6-v2; both are cached."""
