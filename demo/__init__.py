"""`make demo`: the product in one minute, with a node killed in the middle of a conversation."""
