"""`runner schedule`: commands for functions with `@cron`."""
