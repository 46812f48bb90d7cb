"""Measurements of the trained networks of runs, one module each; `flatwide.catalogue` describes them."""
