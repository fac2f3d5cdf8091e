"""The commands of `drun` resolve what was typed, call the library and print.

`cli` imports them late, so --help is quick.
"""
