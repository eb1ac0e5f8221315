"""The `widenet` command: a subcommand per file, and what they share."""
