"""A reference executor for Core ML's ML Programs: it computes the very package, on any machine, in numpy.

`package` opens an .mlpackage, `executor` computes one of its functions, `ops` holds the operations, one family a file.
"""
