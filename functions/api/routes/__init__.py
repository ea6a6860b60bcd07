"""The routes of the HTTP API, a module per subject."""
