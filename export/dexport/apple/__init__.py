"""Core ML: what its converter must not see, the conversion, and Apple's rules for what comes out."""
