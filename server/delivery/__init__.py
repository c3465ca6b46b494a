"""Pushes: to the connections of this node, and to the nodes that hold the other recipients.

Callers use `broadcast` alone: no other module pushes to the hub or the fan-out (`tests/test_architecture.py`).

| module | about |
|---|---|
| `broadcast` | one call for both: pushes here, and queues for other nodes |
| `hub` | the connections of this node by user, and pushes to them |
| `push_queue` | pushes that wait: in turn by the user who caused them, in order within a conversation |
| `sequencer` | each conversation's messages in `seq` order, each once; gaps that last |
| `fanout` | pushes to other nodes: one stream entry for each node and batch |
| `message_traces` | spans of sampled messages |
| `device_sets` | pushes of changed device sets |
| `receipts` | marks for the authors of messages, gathered by conversation |
| `receipt_counts` | counts in place of receipts, in large conversations |
"""
