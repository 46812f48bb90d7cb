"""Linear stability of SGD and SAM at a minimum: the Hessians of single examples, growth, conditions and the verdict."""
