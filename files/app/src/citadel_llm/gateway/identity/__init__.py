"""Who asks: API keys and signed tokens, and what their owners may do."""
