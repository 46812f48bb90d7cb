"""Extras that few users need, each with the packages of its own extra: names in configs find them."""
