"""What the processes share: configuration, logs, signals.

| module | about |
|---|---|
| `config` | all environment variables, with defaults and bounds |
| `config_sources` | where each value of the configuration comes from, for operators; variables that are misspelled |
| `old_variables` | variables of the service before this one |
| `commands` | what the commands of operators share: tables, JSON, errors |
| `process` | runs a process, from its configuration to its exit status |
| `collector` | takes objects that stay off the lists of the garbage collector |
| `early_signals` | SIGTERM and SIGINT before the process can watch for them |
| `signals` | SIGTERM and SIGINT while the process runs |
| `operations` | what each process has for its operators |
| `operator_port` | the port for metrics and health |
| `figure_sharing` | figures for the operations page, while an operator looks |
| `metrics` | the table of metrics, and their page |
| `health` | whether the process lives, and can serve |
| `loop_watch` | sees an event loop that is late or stalled |
| `tracing` | traces of messages, exported by OpenTelemetry |
| `systemd` | systemd's notify protocol |
| `log` | structured logs, for people or as JSON |
| `log_context` | names the request or the connection that a task serves in its log lines |
| `error_reports`, `sentry` | reports of errors, if a DSN is configured; the one file that meets Sentry's library |
| `log_limit` | logs a lasting fault once a minute |
| `line_sample` | bounds the lines of frequent events, and counts the rest |
| `redaction` | takes secrets and addresses of persons out of texts before they are logged |
| `open_files` | raises the limit of open files, and logs when it is reached |
| `email_address` | checks and normalizes e-mail addresses |
| `usernames` | the one form of each username, and the names that new users may take |
| `reserved_names`, `lookalikes` | names that no user gets; characters that look like ASCII |
| `smtp_url` | parses the URL of a mail server |
| `web_origins` | parses origins of web pages |
"""
