"""From the results table to the tables that answer a question; nothing here reads a file or trains."""
