"""Scripts that run inside Redis, one per operation; each begins with what it is for."""
