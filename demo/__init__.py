"""`make demo`: the product in one minute. A node is killed in the middle of a conversation."""
