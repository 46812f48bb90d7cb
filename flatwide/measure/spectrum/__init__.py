"""The spectrum of one symmetric matrix from products with vectors: eigenvalues, trace, norm and density."""
