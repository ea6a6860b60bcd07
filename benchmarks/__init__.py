"""Measurements of the engine on this machine: load, burst, cold start."""
