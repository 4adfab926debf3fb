"""Storage: local paths and object stores, and atomic writes."""
