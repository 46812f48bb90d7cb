"""What is measured on the trained networks of runs: a file a measurement; `flatwide.catalogue` describes them."""
