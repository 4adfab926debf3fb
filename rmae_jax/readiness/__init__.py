"""Estimates of a recipe's memory, time and cost on accelerators, without having them. See __main__.py."""
