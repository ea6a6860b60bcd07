"""From a committed event to the clients that listen."""
