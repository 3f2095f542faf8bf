"""`runner schedule`: when functions with `@cron` fire."""
