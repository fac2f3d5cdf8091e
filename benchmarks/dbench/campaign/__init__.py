"""`dbench gpu`: all that only a GPU can tell, in slices of minutes.

`plan` lists the slices, each a command of this project that people could type, and `running` runs those that have no
result yet.
"""
