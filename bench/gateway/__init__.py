"""The gateway beside other proxies."""
