"""The answers of a study in words: headline, paragraphs, cautions; each number comes from `flatwide.analysis`."""
