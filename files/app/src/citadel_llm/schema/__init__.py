"""Schemas that parts of the application share. They import nothing else of the package."""
