"""Order execution engine: domain code, ports and adapters shared by every function."""
