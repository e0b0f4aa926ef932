"""Delta tables: access, and the history of what each table was made from."""
