"""Charts of result tables, in one style. Nothing here reads a file or trains."""
