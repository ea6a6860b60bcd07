"""Exchanges: the mock ones for now."""
