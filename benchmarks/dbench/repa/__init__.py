"""REPA against plain training on the handwritten digits: the parts of `dbench repa`, one question a file."""
