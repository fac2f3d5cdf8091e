"""What the commands of `drun` do: resolve, call the library, print. Apart from `cli`, so that --help is quick."""
