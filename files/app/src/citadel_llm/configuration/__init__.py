"""The layered configuration: read, validated, explained, switched, backed up and restored."""
