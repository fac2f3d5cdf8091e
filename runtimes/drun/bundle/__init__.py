"""The bundle: a directory of plain files and the only contract between export and runtimes.

Nothing in a bundle is ever executed.
"""
