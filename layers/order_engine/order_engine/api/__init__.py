"""What clients send and get: requests, replies, problems, queries."""
