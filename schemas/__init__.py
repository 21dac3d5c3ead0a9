"""Arrow schemas, one file a table."""
