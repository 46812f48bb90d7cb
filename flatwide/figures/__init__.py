"""From tables to charts, all in one look; nothing here reads a file or trains."""
