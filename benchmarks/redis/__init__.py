"""What several processes share: a Redis server, the nodes around it, and coredis alone."""
