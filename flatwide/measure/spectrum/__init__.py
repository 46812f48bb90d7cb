"""The spectrum of a symmetric matrix from matrix-vector products: eigenvalues, trace, norm and density."""
