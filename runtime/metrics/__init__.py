"""Metrics: the table of all of them, and the page that Prometheus fetches.

Objects count in plain integers and in distributions (`store.distribution`). At each scrape the sources of the process
read them; no counter knows of Prometheus.

| module | about |
|---|---|
| `table`, `metric` | all metrics: name, kind, labels, meaning, processes |
| `gateway_table`, `store_table`, `other_tables` | the rows |
| `samples` | what sources hand over |
| `page` | the page, in Prometheus' text format |
| `process_samples` | figures of the process itself: CPU, memory, open files, garbage collection |
| `store_samples`, `key_samples` | figures of Postgres, Redis, batches and caches; of claims of keys |
| `replica_samples` | figures of hot standbys |
"""
