"""Break things while orders run, and check that none is lost, doubled or kept from anyone."""
